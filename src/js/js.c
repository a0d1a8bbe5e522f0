/* js.c - JetStream of one shard: its turn, its accounts, its end.
 *
 * One turn: log -> committed commands applied -> stores -> timers -> consumers deliver -> groups -> one write of the log.
 *
 *   opening (recover.c) --> serving --close--> everything pending written --> checkpoints --> stores closed --> log closed
 */
#include "js/js.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#include "js/api.h"
#include "js/consumer.h"
#include "js/stream_inside.h"
#include "proto/subject.h"
#include "ringbus/check.h"

#define CACHE_BYTES (64u << 20)
#define RUN_MAX 256u /* messages that one consumer delivers in a turn */

static bool name_equal(const void *item, struct rb_slice key)
{
    return rb_slice_equal(((const struct rb_js_stream *)item)->name, key);
}

static uint64_t name_hash(const void *item)
{
    return rb_slice_hash(((const struct rb_js_stream *)item)->name);
}

/* ---- accounts ---- */

struct rb_js_account *rb_js_account_of(struct rb_js *js, const struct rb_account *account)
{
    for (struct rb_list *link = js->accounts.next; link != &js->accounts; link = link->next) {
        struct rb_js_account *own = RB_CONTAINER(link, struct rb_js_account, link);
        if (own->account == account) {
            return own;
        }
    }
    return NULL;
}

struct rb_js_account *rb_js_account_need(struct rb_js *js, struct rb_account *account)
{
    struct rb_js_account *own = rb_js_account_of(js, account);
    if (own != NULL) {
        return own;
    }
    own = rb_alloc(js->budget, sizeof(*own));
    if (own != NULL) {
        own->js = js;
        own->account = account;
        rb_list_init(&own->streams);
        rb_list_init(&own->sources);
        rb_map_init(&own->stream_map, js->budget, 0, name_equal, name_hash);
        rb_js_watches_init(own);
        rb_list_append(&js->accounts, &own->link);
    }
    return own;
}

struct rb_slice rb_js_account_hash(struct rb_js_account *account)
{
    static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    struct rb_slice name = account->account->name;
    uint8_t digest[EVP_MAX_MD_SIZE];
    if (account->hash[0] == '\0') {
        if (EVP_Digest(name.ptr, name.len, digest, NULL, EVP_sha256(), NULL) != 1) {
            return rb_slice_of(NULL, 0);
        }
        for (uint32_t i = 0; i < RB_JS_ACCOUNT_HASH_LEN; i++) {
            account->hash[i] = digits[digest[i] % 62];
        }
    }
    return rb_slice_of(account->hash, RB_JS_ACCOUNT_HASH_LEN);
}

static void turn_off(struct rb_js_account *own)
{
    own->enabled = false;
    rb_js_api_close(own);
}

/* Its requests of the API go to another account: that one answers. */
static bool imports_api(const struct rb_account *account)
{
    for (uint32_t i = 0; i < account->service_count; i++) {
        if (rb_subject_overlap(rb_sublist_subject(&account->services[i].special.sub.ref),
                               RB_S("$JS.API.>"))) {
            return true;
        }
    }
    return false;
}

/* An account without JetStream is told so by its home, unless it has the API of another one. */
static void look_at(struct rb_js *js, struct rb_account *account)
{
    struct rb_js_limits limits;
    struct rb_js_account *own = rb_js_account_of(js, account);
    bool on = js->options.limits(js->options.ctx, account->id, &limits);
    bool answers = on || (account->policy != NULL && !imports_api(account));
    if (!answers || !js->options.is_home(js->options.ctx, account->name)) {
        if (own != NULL) {
            turn_off(own);
        }
        return;
    }
    own = rb_js_account_need(js, account);
    if (own != NULL) {
        own->enabled = on;
        if (on) {
            own->limits = limits;
        }
        if (rb_js_api_open(own) == RB_OK) {
            return;
        }
        own->enabled = false;
    }
    rb_log_err(js->text_log, "memory budget spent: JetStream is off for account \"%.*s\"",
               RB_S_ARG(account->name));
}

void rb_js_accounts_changed(struct rb_js *js)
{
    if (!js->ready_to_serve || js->closing) {
        return;
    }
    struct rb_core *core = js->core;
    for (uint32_t i = 0; i < core->account_cap; i++) {
        if (core->accounts[i] != NULL && core->accounts[i]->name.len > 0) {
            look_at(js, core->accounts[i]);
        }
    }
}

void rb_js_interest(struct rb_js *js, struct rb_account *account, struct rb_slice subject)
{
    struct rb_js_account *own = rb_js_account_of(js, account);
    if (own != NULL) {
        rb_js_watches_interest(own, subject);
    }
}

/* ---- events ---- */

static void stop_all(struct rb_js *js, enum rb_err err)
{
    rb_log_err(js->text_log,
               "JetStream: the log cannot be written any more (%s): publishes and "
               "changes are refused, what was stored can be read",
               rb_err_text(err));
    for (struct rb_list *at = js->accounts.next; at != &js->accounts; at = at->next) {
        struct rb_js_account *own = RB_CONTAINER(at, struct rb_js_account, link);
        for (struct rb_list *link = own->streams.next, *next; link != &own->streams; link = next) {
            next = link->next;
            struct rb_js_stream *stream = RB_CONTAINER(link, struct rb_js_stream, link);
            if (stream->group.options.log != NULL) {
                rb_js_group_stop(&stream->group, RB_ERR_IO);
            }
        }
    }
}

static void room_for_all(struct rb_js *js)
{
    for (struct rb_list *at = js->accounts.next; at != &js->accounts; at = at->next) {
        struct rb_js_account *own = RB_CONTAINER(at, struct rb_js_account, link);
        for (struct rb_list *link = own->streams.next; link != &own->streams; link = link->next) {
            rb_js_group_room(&RB_CONTAINER(link, struct rb_js_stream, link)->group);
        }
    }
}

static void stream_written(struct rb_js_stream *stream, struct rb_wal_write *write)
{
    if (write != &stream->inside->write) {
        return; /* a prefix that was dropped: if not, the next checkpoint tries again */
    }
    struct rb_js_progress *progress = &stream->inside->progress;
    progress->logging = false;
    progress->logged = write->err == RB_OK;
    progress->err = write->err != RB_OK ? write->err : progress->err;
    rb_js_stream_step(stream);
}

static void take_written(struct rb_js *js, struct rb_wal_write *write)
{
    switch ((enum rb_js_write_tag)write->tag) {
    case RB_JS_WRITE_ENTRY:
        rb_js_group_written(write);
        break;
    case RB_JS_WRITE_STREAM:
        stream_written(write->owner, write);
        break;
    case RB_JS_WRITE_HOME:
        rb_js_recover_home_written(js, write);
        break;
    }
}

static void fail(struct rb_js *js, const char *what, enum rb_err err)
{
    js->failed = true;
    (void)snprintf(js->failure, sizeof(js->failure), "%s: %s", what, rb_err_text(err));
}

static void take_log_event(struct rb_js *js, const struct rb_wal_event *event)
{
    switch (event->kind) {
    case RB_WAL_OPENED:
        js->log_opened = event->err == RB_OK;
        if (event->err != RB_OK) {
            fail(js, "the log cannot be opened", event->err);
        } else {
            rb_js_recover_begin(js);
        }
        break;
    case RB_WAL_WRITTEN:
        take_written(js, event->write);
        break;
    case RB_WAL_WAS_READ:
        rb_js_recover_read(js, event->read);
        break;
    case RB_WAL_DAMAGED:
        rb_js_recover_damage(js, event->damage);
        break;
    case RB_WAL_STOPPED:
        stop_all(js, event->err);
        break;
    case RB_WAL_ROOM:
        atomic_store(&js->shared->out_of_space, false);
        room_for_all(js);
        break;
    case RB_WAL_CLOSED:
        js->log_closed = true;
        break;
    }
}

static bool take_log(struct rb_js *js)
{
    struct rb_wal_event *events;
    bool worked = false;
    for (uint32_t count = RB_WAL_EVENTS_MAX; count == RB_WAL_EVENTS_MAX;) {
        count = rb_wal_poll(js->log, &events);
        for (uint32_t i = 0; i < count; i++) {
            take_log_event(js, &events[i]);
        }
        worked |= count > 0;
    }
    return worked;
}

static void store_opened(struct rb_js_stream *stream, enum rb_err err)
{
    struct rb_js_progress *progress = &stream->inside->progress;
    progress->opening_store = false;
    if (stream->inside->recovery != NULL) {
        rb_js_recover_store_opened(stream, err);
        return;
    }
    progress->store_ready = err == RB_OK;
    progress->err = err != RB_OK && progress->err == RB_OK ? err : progress->err;
    rb_js_stream_step(stream);
}

static void store_closed(struct rb_js_stream *stream)
{
    if (stream->inside->recovery != NULL) {
        rb_js_recover_store_closed(stream);
        return;
    }
    stream->inside->progress.store_gone = true;
    rb_js_stream_step(stream);
}

static void loaded(struct rb_js *js, struct rb_msgstore_wait *wait)
{
    if (wait->tag == RB_JS_WAIT_CONSUMER) {
        rb_js_consumer_loaded(wait->owner);
    } else if (wait->tag == RB_JS_WAIT_API) {
        rb_js_api_loaded(js, wait);
    } else if (wait->tag == RB_JS_WAIT_SCHEDULE) {
        rb_js_schedule_loaded(wait->owner);
    }
}

static void take_store_event(struct rb_js *js, const struct rb_msgstore_event *event)
{
    struct rb_js_store_owner *owner = event->owner;
    struct rb_js_stream *stream = owner->stream;
    if (stream == NULL) {
        rb_js_recover_orphan(js, owner, event);
        return;
    }
    switch (event->kind) {
    case RB_MSGSTORE_OPENED:
        store_opened(stream, event->err);
        break;
    case RB_MSGSTORE_LOADED:
        loaded(js, event->wait);
        break;
    case RB_MSGSTORE_CHECKPOINTED:
        rb_js_checkpointed(stream, event);
        break;
    case RB_MSGSTORE_DAMAGED:
        stream->inside->damaged = true;
        rb_log_err(js->text_log, "JetStream stream \"%.*s\" of account \"%.*s\" is damaged: %s",
                   RB_S_ARG(stream->name), RB_S_ARG(stream->account->account->name), event->text);
        break;
    case RB_MSGSTORE_CLOSED:
        store_closed(stream);
        break;
    }
}

static bool take_stores(struct rb_js *js)
{
    struct rb_msgstore_event *events;
    uint32_t count = rb_msgstore_home_poll(js->store_home, &events);
    for (uint32_t i = 0; i < count; i++) {
        take_store_event(js, &events[i]);
    }
    return count > 0;
}

void rb_js_complete(struct rb_js *js, struct rb_disk_op *op)
{
    if (op->owner == js->log) {
        rb_wal_complete(js->log, op);
    } else if (op->owner == js->store_home) {
        rb_msgstore_home_complete(js->store_home, op);
    } else {
        rb_assert(op->owner == js);
        rb_js_recover_disk(js, op);
    }
}

/* ---- the turn ---- */

static void take_timer(struct rb_js *js, struct rb_timer *timer)
{
    struct rb_js_alarm *alarm = RB_CONTAINER(timer, struct rb_js_alarm, timer);
    switch ((enum rb_js_timer)timer->kind) {
    case RB_JS_TIMER_CONSUMER:
        rb_js_consumer_timer(alarm->owner, timer);
        break;
    case RB_JS_TIMER_STREAM:
        rb_js_stream_timer(alarm->owner, timer);
        break;
    case RB_JS_TIMER_CHECKPOINT:
        rb_js_checkpoint_timer(js);
        break;
    case RB_JS_TIMER_API:
        rb_js_api_timer(js, timer);
        break;
    case RB_JS_TIMER_SOURCE:
        rb_js_source_timer(alarm->owner);
        break;
    case RB_JS_TIMER_SCHEDULE:
        rb_js_schedule_timer(alarm->owner);
        break;
    }
}

static bool run_consumers(struct rb_js *js)
{
    struct rb_list run;
    bool worked = false;
    rb_list_init(&run);
    rb_list_splice(&run, &js->ready);
    for (struct rb_list *link; (link = rb_list_pop(&run)) != NULL;) {
        struct rb_js_consumer *consumer = RB_CONTAINER(link, struct rb_js_consumer, link);
        if (js->core->mail_tight) { /* what it delivers may be for other shards: later */
            rb_list_append(&js->ready, &consumer->link);
            continue;
        }
        worked = true;
        if (rb_js_consumer_run(consumer, RUN_MAX) && rb_list_empty(&consumer->link)) {
            rb_list_append(&js->ready, &consumer->link);
        }
    }
    return worked;
}

static bool turn_groups(struct rb_js *js)
{
    struct rb_list groups;
    bool worked = false;
    rb_list_init(&groups);
    rb_list_splice(&groups, &js->groups_ready);
    for (struct rb_list *link; (link = rb_list_pop(&groups)) != NULL;) {
        worked |= rb_js_group_turn(RB_CONTAINER(link, struct rb_js_group, link));
    }
    return worked;
}

static bool turn_steps(struct rb_js *js)
{
    struct rb_list steps;
    rb_list_init(&steps);
    rb_list_splice(&steps, &js->stepping);
    bool worked = !rb_list_empty(&steps);
    for (struct rb_list *link; (link = rb_list_pop(&steps)) != NULL;) {
        rb_js_stream_step(RB_CONTAINER(link, struct rb_js_stream_inside, step_link)->stream);
    }
    return worked;
}

void rb_js_begin(struct rb_js *js, uint64_t now_ns)
{
    js->now_ns = now_ns;
    uint64_t wall_ns = js->env->wall_ns(js->env->ctx);
    js->wall_ns = wall_ns > js->wall_ns ? wall_ns : js->wall_ns;
}

static bool turn_close(struct rb_js *js);

bool rb_js_turn(struct rb_js *js)
{
    bool worked = take_log(js);
    worked |= take_stores(js);
    rb_js_recover_turn(js);
    for (struct rb_timer *timer; (timer = rb_wheel_expire(&js->wheel, js->now_ns)) != NULL;) {
        take_timer(js, timer);
        worked = true;
    }
    if (!js->closing) {
        worked |= run_consumers(js);
    }
    worked |= turn_groups(js);
    worked |= turn_steps(js);
    if (js->closing) {
        worked |= turn_close(js);
    }
    rb_msgstore_home_flush(js->store_home);
    if (!js->log_closed && !js->log_closing) {
        rb_wal_flush(js->log);
    }
    return worked;
}

/* Groups that wait for the log have their turn with its next completion. */
static bool group_wants_turn(const struct rb_js *js)
{
    for (const struct rb_list *at = js->groups_ready.next; at != &js->groups_ready; at = at->next) {
        if (!RB_CONTAINER(at, struct rb_js_group, link)->log_busy) {
            return true;
        }
    }
    return false;
}

uint64_t rb_js_due(struct rb_js *js)
{
    bool now = !rb_list_empty(&js->ready) || group_wants_turn(js);
    uint64_t now_ns = rb_env_now(js->env);
    if (now && !js->closing) {
        return now_ns;
    }
    uint64_t due = js->log_closed ? UINT64_MAX : rb_wal_due(js->log);
    uint64_t store_due = rb_msgstore_home_due(js->store_home);
    due = store_due < due ? store_due : due;
    int64_t wait_ns = rb_wheel_wait_ns(&js->wheel, now_ns);
    if (wait_ns >= 0 && now_ns + (uint64_t)wait_ns < due) {
        due = now_ns + (uint64_t)wait_ns;
    }
    return due;
}

/* ---- made and ended ---- */

enum rb_err rb_js_create(const struct rb_js_options *options, struct rb_js **ret_js)
{
    struct rb_core *core = options->core;
    struct rb_js *js = rb_alloc(core->budget, sizeof(*js));
    if (js == NULL) {
        return RB_ERR_MEMORY;
    }
    js->options = *options;
    js->core = core;
    js->env = core->env;
    js->text_log = core->log;
    js->budget = core->budget;
    js->settings = options->settings;
    js->shared = options->shared;
    js->log = options->log;
    js->disk = options->disk;
    rb_list_init(&js->accounts);
    rb_list_init(&js->groups_ready);
    rb_list_init(&js->ready);
    rb_list_init(&js->stepping);
    rb_list_init(&js->orphans);
    rb_list_init(&js->dropped);
    rb_js_pools_init(&js->pools, js->budget);
    rb_zones_init(&js->zones, js->budget);
    rb_js_begin(js, rb_env_now(js->env));
    rb_wheel_init(&js->wheel, js->now_ns);
    rb_timer_init(&js->checkpoint_alarm.timer, RB_JS_TIMER_CHECKPOINT);
    js->checkpoint_alarm.owner = js;
    js->next_group = RB_JS_HOME_GROUP + 1;
    struct rb_msgstore_home_options home = {
        .disk = js->disk,
        .env = js->env,
        .budget = js->budget,
        .cache_bytes = js->settings->cache_bytes == 0 ? CACHE_BYTES : js->settings->cache_bytes,
    };
    enum rb_err err = rb_msgstore_home_create(&home, &js->store_home);
    if (err == RB_OK) {
        err = rb_js_recover_create(js);
        if (err != RB_OK) {
            rb_msgstore_home_destroy(js->store_home);
        }
    }
    if (err != RB_OK) {
        rb_free(js->budget, js, sizeof(*js));
        return err;
    }
    *ret_js = js;
    return RB_OK;
}

struct rb_slice rb_js_progress(struct rb_js *js, char *out, size_t cap)
{
    return js->ready_to_serve || js->failed ? rb_slice_of(NULL, 0)
                                            : rb_js_recover_progress(js, out, cap);
}

/* ---- the end ---- */

typedef void (*stream_visit)(struct rb_js_stream *stream, void *ctx);

static void each_stream(struct rb_js *js, stream_visit visit, void *ctx)
{
    for (struct rb_list *at = js->accounts.next; at != &js->accounts; at = at->next) {
        struct rb_js_account *own = RB_CONTAINER(at, struct rb_js_account, link);
        for (struct rb_list *link = own->streams.next, *next; link != &own->streams; link = next) {
            next = link->next;
            visit(RB_CONTAINER(link, struct rb_js_stream, link), ctx);
        }
    }
}

static void stop_listening(struct rb_js_stream *stream, void *ctx)
{
    rb_js_stream_unlisten(stream);
    rb_js_sources_stop(stream, false);
    rb_js_schedules_stop(stream);
    rb_js_batches_drop(stream);
}

void rb_js_close(struct rb_js *js)
{
    if (js->closing) {
        return;
    }
    js->closing = true;
    for (struct rb_list *at = js->accounts.next; at != &js->accounts; at = at->next) {
        turn_off(RB_CONTAINER(at, struct rb_js_account, link));
    }
    each_stream(js, stop_listening, NULL);
}

static void look_unwritten(struct rb_js_stream *stream, void *ctx)
{
    const struct rb_js_progress *progress = &stream->inside->progress;
    *(bool *)ctx |= stream->group.pending_count > 0 || progress->logging || progress->opening_store;
}

static void begin_checkpoint(struct rb_js_stream *stream, void *ctx)
{
    if (stream->group.log_bytes > 0) {
        rb_js_checkpoint(stream, true);
    }
}

static void look_checkpoint(struct rb_js_stream *stream, void *ctx)
{
    *(bool *)ctx |= stream->inside->checkpointing;
}

static void close_store(struct rb_js_stream *stream, void *ctx)
{
    rb_js_stream_close_consumers(stream, RB_S("409 Server Shutdown"));
    if (stream->store != NULL) {
        rb_js_stream_uncount(stream);
        rb_msgstore_close(stream->store);
        stream->store = NULL;
        stream->inside->progress.closing = true;
    }
}

static void look_store(struct rb_js_stream *stream, void *ctx)
{
    const struct rb_js_progress *progress = &stream->inside->progress;
    *(bool *)ctx |= progress->closing && !progress->store_gone;
}

static bool turn_close(struct rb_js *js)
{
    bool busy = false;
    switch (js->close_stage) {
    case RB_JS_CLOSE_WRITES:
        each_stream(js, look_unwritten, &busy);
        if (busy || !rb_list_empty(&js->dropped) || !rb_js_recover_idle(js)) {
            return false;
        }
        each_stream(js, begin_checkpoint, NULL);
        js->close_stage = RB_JS_CLOSE_CHECKPOINTS;
        return true;
    case RB_JS_CLOSE_CHECKPOINTS:
        each_stream(js, look_checkpoint, &busy);
        if (busy) {
            return false;
        }
        each_stream(js, close_store, NULL);
        js->close_stage = RB_JS_CLOSE_STORES;
        return true;
    case RB_JS_CLOSE_STORES:
        each_stream(js, look_store, &busy);
        if (busy) {
            return false;
        }
        rb_wal_flush(js->log);
        rb_wal_close(js->log);
        js->log_closing = true;
        js->close_stage = RB_JS_CLOSE_LOG;
        return true;
    case RB_JS_CLOSE_LOG:
        js->closed = js->log_closed;
        return false;
    }
    return false;
}

bool rb_js_closed(const struct rb_js *js)
{
    return js->closed;
}

static void free_stream(struct rb_js_stream *stream, void *ctx)
{
    rb_js_stream_close_consumers(stream, rb_slice_of(NULL, 0));
    if (stream->store != NULL) {
        rb_js_stream_uncount(stream);
    }
    stream->phase = RB_JS_STREAM_OFFLINE; /* whoever is told begins nothing */
    rb_js_group_abandon(&stream->group);
    rb_js_change_abandon(stream);
    rb_js_stream_free(stream);
}

void rb_js_destroy(struct rb_js *js)
{
    rb_assert(js->closed || js->store_home == NULL);
    rb_js_recover_deinit(js);
    for (struct rb_list *at = js->accounts.next; at != &js->accounts; at = at->next) {
        turn_off(RB_CONTAINER(at, struct rb_js_account, link));
    }
    each_stream(js, free_stream, NULL);
    for (struct rb_list *link; (link = rb_list_pop(&js->dropped)) != NULL;) {
        free_stream(RB_CONTAINER(link, struct rb_js_stream_inside, drop_link)->stream, NULL);
    }
    for (struct rb_list *link; (link = rb_list_pop(&js->accounts)) != NULL;) {
        struct rb_js_account *own = RB_CONTAINER(link, struct rb_js_account, link);
        rb_map_deinit(&own->stream_map);
        rb_map_deinit(&own->watches); /* empty: all consumers are gone */
        rb_free(js->budget, own, sizeof(*own));
    }
    rb_js_api_abandon(js);
    rb_wal_destroy(js->log);
    if (js->store_home != NULL) {
        rb_msgstore_home_destroy(js->store_home);
    }
    rb_zones_deinit(&js->zones);
    rb_js_pools_deinit(&js->pools);
    rb_free(js->budget, js, sizeof(*js));
}
