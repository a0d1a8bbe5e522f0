/* change.c - streams made, updated, purged and deleted by request, and the steps that making and dropping take.
 *
 *   make:  id -> store opens, state written -> both done: SERVING, answered
 *   drop:  names gone -> "its files are to go" and the drop written -> durable: answered, consumers and files go -> freed
 *
 * A step that the log or the disk has no room for is tried again each turn (js->stepping). A crash between the two writes of a drop
 * leaves the stream as it was; a crash behind them leaves files, which the next start removes (recover.c).
 */
#include <stdio.h>
#include <string.h>

#include "js/api.h"
#include "js/consumer.h"
#include "js/saved.h"
#include "js/stream_inside.h"
#include "ringbus/check.h"

#define ARENA_BYTES 1024
#define NAMES_MAX 400
#define STORE_TEXT "error creating store for stream"

void rb_js_change_end(struct rb_js_change *change, struct rb_js_stream *stream,
                      const struct rb_js_outcome *outcome)
{
    if (change != NULL) {
        change->stream = stream;
        change->done(change, stream, outcome);
    }
}

static void end_with(struct rb_js_change *change, struct rb_js_stream *stream, uint16_t code,
                     const char *detail)
{
    struct rb_js_outcome outcome = { .seq = 0 };
    rb_js_error_set(&outcome.error, code, detail);
    rb_js_change_end(change, stream, &outcome);
}

static void end_created(struct rb_js_change *change, struct rb_js_stream *stream)
{
    struct rb_js_outcome outcome = { .created = true };
    rb_js_change_end(change, stream, &outcome);
}

/* Everybody who waits for the stream's making or end. */
static void end_waiting(struct rb_js_stream *stream, const struct rb_js_outcome *outcome, bool gone)
{
    struct rb_js_change *change = stream->inside->waiting;
    stream->inside->waiting = NULL;
    while (change != NULL) {
        struct rb_js_change *next = change->next;
        rb_js_change_end(change, gone ? NULL : stream, outcome);
        change = next;
    }
}

void rb_js_change_abandon(struct rb_js_stream *stream)
{
    struct rb_js_outcome outcome = { .seq = 0 };
    rb_js_error_set(&outcome.error, 10023, NULL);
    end_waiting(stream, &outcome, true);
}

static void step_later(struct rb_js_stream *stream)
{
    if (rb_list_empty(&stream->inside->step_link)) {
        rb_list_append(&stream->account->js->stepping, &stream->inside->step_link);
    }
}

/* ---- making ---- */

static enum rb_err write_state(struct rb_js_stream *stream)
{
    struct rb_js *js = stream->account->js;
    struct rb_js_stream_inside *inside = stream->inside;
    struct rb_out out;
    rb_out_init(&out, js->budget);
    rb_js_put_number(&out, RB_JS_STATE_VERSION);
    rb_js_put_number(&out, stream->created_ns);
    rb_js_put_text(&out, stream->account->account->name);
    rb_js_put_text(&out, stream->name);
    struct rb_out config;
    rb_out_init(&config, js->budget);
    rb_doc_write(&config, &rb_js_stream_config_type, stream->config);
    rb_js_put_text(&out, rb_out_slice(&config));
    bool failed = out.failed || config.failed;
    rb_out_deinit(&config);
    inside->write = (struct rb_wal_write){ .owner = stream, .tag = RB_JS_WRITE_STREAM };
    enum rb_err err = failed ? RB_ERR_MEMORY
                             : rb_wal_put_state(js->log, &inside->write, stream->group.options.id,
                                                RB_JS_STATE_STREAM, 0, rb_out_slice(&out));
    rb_out_deinit(&out);
    return err;
}

static enum rb_err make_step(struct rb_js_stream *stream)
{
    struct rb_js_stream_inside *inside = stream->inside;
    struct rb_js_progress *progress = &inside->progress;
    bool memory = stream->config->storage == RB_JS_MEMORY;
    enum rb_err err = RB_OK;
    if (!memory && stream->group.options.id == 0) {
        err = rb_js_recover_next_group(stream->account->js, &stream->group.options.id);
    }
    if (err == RB_OK && !progress->opening_store && !progress->store_ready) {
        err = rb_js_stream_open_store(stream);
    }
    if (err == RB_OK && memory) {
        progress->logged = true;
    } else if (err == RB_OK && !progress->logged && !progress->logging) {
        err = write_state(stream);
        progress->logging = err == RB_OK;
    }
    return err;
}

static void begin_store(struct rb_js_stream *stream)
{
    if (stream->config->first_seq > 1) {
        rb_msgstore_skip(stream->store, stream->config->first_seq - 1);
    }
}

static void step_making(struct rb_js_stream *stream)
{
    struct rb_js_progress *progress = &stream->inside->progress;
    if (progress->err == RB_OK) {
        enum rb_err err = make_step(stream);
        if (err == RB_ERR_FULL) {
            step_later(stream);
            return;
        }
        progress->err = err;
    }
    if (progress->logging || progress->opening_store) {
        return; /* also when it failed: what is under way comes back first */
    }
    if (progress->err != RB_OK) {
        struct rb_js_outcome outcome = { .seq = 0 };
        rb_js_error_set(&outcome.error, progress->err == RB_ERR_SPACE ? 10023 : 10049,
                        progress->err == RB_ERR_SPACE ? NULL : STORE_TEXT);
        end_waiting(stream, &outcome, true);
        rb_js_stream_drop(stream);
        return;
    }
    if (progress->logged && progress->store_ready) {
        begin_store(stream);
        rb_js_stream_opened(stream);
        struct rb_js_outcome outcome = { .created = true };
        rb_js_advise_stream(stream, "create");
        end_waiting(stream, &outcome, false);
    }
}

static bool make_checked(struct rb_js_account *account, const struct rb_js_stream_config *given,
                         struct rb_arena *arena, struct rb_js_stream_config **ret_config,
                         struct rb_js_error *error)
{
    struct rb_js_stream_config *config = rb_arena_take(arena, sizeof(*config));
    if (config == NULL || !rb_doc_copy(arena, &rb_js_stream_config_type, given, config)) {
        rb_js_error_set(error, 10023, NULL);
        return false;
    }
    config->pedantic = given->pedantic;
    *ret_config = config;
    return true;
}

/* True: answered, or waiting for one that is being made. */
static bool create_again(struct rb_js_account *account, const struct rb_js_stream_config *config,
                         struct rb_js_change *change)
{
    struct rb_js_stream *stream = rb_js_stream_any(account, config->name);
    if (stream == NULL) {
        return false;
    }
    if (!rb_doc_equal(&rb_js_stream_config_type, config, stream->config)) {
        end_with(change, stream, 10058, NULL);
    } else if (stream->phase == RB_JS_STREAM_OPENING) {
        change->next = stream->inside->waiting;
        stream->inside->waiting = change;
    } else {
        end_created(change, stream);
    }
    return true;
}

static void create(struct rb_js_account *account, struct rb_js_stream_config *config,
                   struct rb_js_change *change)
{
    struct rb_js *js = account->js;
    struct rb_js_error error;
    if (create_again(account, config, change)) {
        return;
    }
    if (!rb_js_stream_room_check(account, config, NULL, &error)) {
        struct rb_js_outcome outcome = { .error = error };
        rb_js_change_end(change, NULL, &outcome);
        return;
    }
    struct rb_js_stream *stream;
    if (rb_js_stream_make(account, 0, js->wall_ns, config, &stream) != RB_OK) {
        end_with(change, NULL, 10023, NULL);
        return;
    }
    change->next = NULL;
    stream->inside->waiting = change;
    rb_js_stream_step(stream);
}

void rb_js_stream_create(struct rb_js_account *account, const struct rb_js_stream_config *config,
                         struct rb_js_change *change)
{
    struct rb_js_outcome outcome = { .seq = 0 };
    struct rb_js_stream_config *checked;
    struct rb_arena *arena;
    if (account->js->closing || !account->js->ready_to_serve || !account->enabled) {
        end_with(change, NULL, account->enabled ? 10023 : 10039, NULL);
        return;
    }
    if (rb_arena_create(ARENA_BYTES, &arena) != RB_OK) {
        end_with(change, NULL, 10023, NULL);
        return;
    }
    if (make_checked(account, config, arena, &checked, &outcome.error) &&
        rb_js_stream_config_check(account, checked, arena, NULL, &outcome.error)) {
        create(account, checked, change);
    } else {
        rb_js_change_end(change, NULL, &outcome);
    }
    rb_arena_destroy(arena);
}

/* ---- dropping ---- */

static enum rb_err drop_step(struct rb_js_stream *stream)
{
    struct rb_js *js = stream->account->js;
    struct rb_js_stream_inside *inside = stream->inside;
    struct rb_js_progress *progress = &inside->progress;
    struct rb_wal_group_info info;
    uint64_t group = stream->group.options.id;
    if (stream->group.options.log == NULL || group == 0 || !rb_wal_group(js->log, group, &info)) {
        progress->logged = true; /* nothing of it is in the log */
        return RB_OK;
    }
    enum rb_err err = RB_OK;
    if (!progress->marked) {
        err = rb_js_recover_dropping(js, group);
        progress->marked = err == RB_OK;
    }
    if (err == RB_OK) {
        inside->write = (struct rb_wal_write){ .owner = stream, .tag = RB_JS_WRITE_STREAM };
        err = rb_wal_drop_group(js->log, &inside->write, group);
        progress->logging = err == RB_OK;
    }
    return err;
}

/* They go with it. */
static void advise_consumers(struct rb_js_stream *stream)
{
    for (struct rb_list *link = stream->consumers.next; link != &stream->consumers;
         link = link->next) {
        struct rb_js_consumer *consumer = RB_CONTAINER(link, struct rb_js_consumer, of_stream);
        if (!consumer->config->direct) {
            rb_js_advise_consumer(consumer, "delete");
        }
    }
}

static void end_store(struct rb_js_stream *stream)
{
    struct rb_js_progress *progress = &stream->inside->progress;
    rb_js_stream_close_consumers(stream, rb_slice_of(NULL, 0));
    progress->closing = true;
    if (stream->store == NULL) { /* never opened: its files go as those of a forgotten stream */
        if (progress->marked &&
            rb_js_recover_remove_files(stream->account->js, stream->group.options.id) == RB_OK) {
            progress->marked = false;
        }
        progress->store_gone = true;
        return;
    }
    rb_js_stream_uncount(stream);
    if (progress->err == RB_OK) {
        rb_msgstore_destroy(stream->store);
    } else { /* the log still has it, and so has the next start */
        rb_msgstore_close(stream->store);
    }
    stream->store = NULL;
}

static void step_dropping(struct rb_js_stream *stream)
{
    struct rb_js *js = stream->account->js;
    struct rb_js_progress *progress = &stream->inside->progress;
    if (!progress->logged && !progress->logging && progress->err == RB_OK) {
        enum rb_err err = drop_step(stream);
        if (err == RB_ERR_FULL) {
            step_later(stream);
            return;
        }
        progress->err = err;
    }
    if (progress->logging || progress->opening_store || stream->inside->checkpointing) {
        return;
    }
    if (!progress->closing && (progress->logged || progress->err != RB_OK)) {
        struct rb_js_outcome outcome = { .seq = 0 };
        if (progress->err != RB_OK) {
            rb_js_error_set(&outcome.error, 10050, rb_err_text(progress->err));
        }
        if (stream->inside->waiting != NULL) { /* else it was never made */
            rb_js_advise_stream(stream, "delete");
            advise_consumers(stream);
        }
        end_waiting(stream, &outcome, true);
        end_store(stream);
    }
    if (progress->store_gone && stream->group.pending_count == 0) {
        if (progress->marked) {
            rb_js_recover_dropped(js, stream->group.options.id);
        }
        rb_js_stream_free(stream);
    }
}

void rb_js_stream_drop(struct rb_js_stream *stream)
{
    struct rb_js_progress *progress = &stream->inside->progress;
    rb_js_stream_unname(stream);
    rb_list_append(&stream->account->js->dropped, &stream->inside->drop_link);
    stream->phase = RB_JS_STREAM_DELETING;
    progress->logged = progress->logging = progress->marked = false;
    progress->err = RB_OK;
    rb_js_group_stop(&stream->group, RB_ERR_CANCELED);
    rb_js_stream_step(stream);
}

void rb_js_stream_step(struct rb_js_stream *stream)
{
    rb_list_remove(&stream->inside->step_link);
    if (stream->phase == RB_JS_STREAM_OPENING) {
        step_making(stream);
    } else if (stream->phase == RB_JS_STREAM_DELETING) {
        step_dropping(stream);
    }
}

void rb_js_stream_delete(struct rb_js_stream *stream, struct rb_js_change *change)
{
    rb_assert(stream->phase == RB_JS_STREAM_SERVING || stream->phase == RB_JS_STREAM_OFFLINE);
    if (stream->account->js->closing) {
        end_with(change, stream, 10023, NULL);
        return;
    }
    change->next = NULL;
    stream->inside->waiting = change;
    rb_js_stream_drop(stream);
}

/* ---- commands ---- */

static void changed(struct rb_js_waiter *waiter, enum rb_err err, const void *outcome)
{
    struct rb_js_change *change = RB_CONTAINER(waiter, struct rb_js_change, waiter);
    if (err == RB_OK) {
        change->done(change, change->stream, outcome);
        return;
    }
    struct rb_js_outcome failed = { .seq = 0 };
    rb_js_stream_error(&failed.error, err);
    change->done(change, change->stream, &failed);
}

static void propose(struct rb_js_stream *stream, struct rb_command *command,
                    struct rb_js_change *change)
{
    change->stream = stream;
    change->waiter.done = changed;
    if (command->time_ns == 0) {
        command->time_ns = stream->account->js->wall_ns;
    }
    enum rb_err err = rb_js_stream_propose(stream, command, &change->waiter);
    if (err != RB_OK) {
        changed(&change->waiter, err, NULL);
    }
}

void rb_js_stream_delete_message(struct rb_js_stream *stream, uint64_t seq, bool erase,
                                 struct rb_js_change *change)
{
    struct rb_command command = { .type = RB_COMMAND_DELETE,
                                  .flags = erase ? RB_COMMAND_ERASE : 0,
                                  .seq = seq };
    propose(stream, &command, change);
}

void rb_js_stream_delete_counted(struct rb_js_stream *stream, uint64_t seq, bool erase,
                                 const struct rb_js_counter_value *before, uint64_t before_seq,
                                 struct rb_js_change *change)
{
    struct rb_command command = { .type = RB_COMMAND_DELETE,
                                  .flags = erase ? RB_COMMAND_ERASE : 0,
                                  .seq = seq,
                                  .value = before_seq,
                                  .subject = before->sources,
                                  .text = before->total };
    propose(stream, &command, change);
}

void rb_js_stream_purge(struct rb_js_stream *stream, struct rb_slice filter, uint64_t below,
                        uint64_t keep, struct rb_js_change *change)
{
    struct rb_command command = {
        .type = RB_COMMAND_PURGE, .seq = below, .value = keep, .text = filter
    };
    propose(stream, &command, change);
}

void rb_js_stream_publish(struct rb_js_stream *stream, const struct rb_command *command,
                          struct rb_js_change *change)
{
    struct rb_command copy = *command;
    if ((copy.flags & RB_COMMAND_KEEP_SEQ) == 0) {
        rb_js_stream_stamp(stream, &copy);
    }
    propose(stream, &copy, change);
}

/* Consumers that a new limit leaves no room for. */
static bool check_consumers(struct rb_js_stream *stream, const struct rb_js_stream_config *config,
                            struct rb_js_error *error)
{
    const struct rb_js_consumer_limits *limits = &config->consumer_limits;
    char names[NAMES_MAX] = "";
    size_t len = 0;
    rb_js_consumers_sort(stream);
    for (struct rb_list *link = stream->consumers.next; link != &stream->consumers;
         link = link->next) {
        const struct rb_js_consumer *consumer =
            RB_CONTAINER(link, struct rb_js_consumer, of_stream);
        bool over = (limits->inactive_threshold > 0 &&
                     consumer->config->inactive_threshold > limits->inactive_threshold) ||
                    (limits->max_ack_pending > 0 &&
                     consumer->config->max_ack_pending > limits->max_ack_pending);
        if (over && len + consumer->name.len + 3 < sizeof(names)) {
            len += (size_t)snprintf(names + len, sizeof(names) - len, "%s%.*s", len > 0 ? ", " : "",
                                    RB_S_ARG(consumer->name));
        }
    }
    if (len == 0) {
        return true;
    }
    rb_js_error_format(error, 10069, "change to limits violates consumers: %s", names);
    return false;
}

static void update(struct rb_js_stream *stream, struct rb_arena *arena,
                   const struct rb_js_stream_config *given, struct rb_js_change *change)
{
    struct rb_js_account *account = stream->account;
    struct rb_js_stream_config *config;
    struct rb_js_outcome outcome = { .seq = 0 };
    if (!make_checked(account, given, arena, &config, &outcome.error) ||
        !rb_js_stream_config_check(account, config, arena, stream->config, &outcome.error) ||
        !check_consumers(stream, config, &outcome.error) ||
        !rb_js_stream_room_check(account, config, stream, &outcome.error)) {
        rb_js_change_end(change, stream, &outcome);
        return;
    }
    struct rb_out out;
    rb_out_init(&out, account->js->budget);
    rb_doc_write(&out, &rb_js_stream_config_type, config);
    if (out.failed) {
        end_with(change, stream, 10023, NULL);
    } else {
        struct rb_command command = { .type = RB_COMMAND_CONFIG, .text = rb_out_slice(&out) };
        propose(stream, &command, change);
    }
    rb_out_deinit(&out);
}

void rb_js_stream_update(struct rb_js_stream *stream, const struct rb_js_stream_config *config,
                         struct rb_js_change *change)
{
    struct rb_arena *arena;
    if (rb_arena_create(ARENA_BYTES, &arena) != RB_OK) {
        end_with(change, stream, 10023, NULL);
        return;
    }
    update(stream, arena, config, change);
    rb_arena_destroy(arena);
}

void rb_js_stream_restored(struct rb_js_stream *stream, const struct rb_js_stream_config *config,
                           struct rb_js_change *change)
{
    stream->inside->restoring =
        config->mirror == NULL; /* a mirror is the same as before: nothing is applied */
    rb_js_stream_update(stream, config, change);
}

/* ---- applying ---- */

/* Of a counter the newest message of its subject only goes when the command knows the one that becomes the newest. */
static void delete_message(struct rb_js_stream *stream, const struct rb_command *command,
                           struct rb_js_outcome *outcome)
{
    struct rb_msgstore_subject info;
    uint8_t bytes[RB_MSGSTORE_SUBJECT_MAX];
    struct rb_slice subject = rb_slice_of(NULL, 0);
    uint64_t before = 0;
    if (stream->config->allow_msg_counter) {
        subject = rb_msgstore_subject_of(stream->store, command->seq, bytes);
        if (subject.len > 0 && rb_msgstore_subject(stream->store, subject, &info) &&
            info.last_seq == command->seq && info.count > 1) {
            before = rb_msgstore_last(stream->store, &subject, 1, command->seq - 1);
        }
    }
    if (before != 0 && before != command->value) {
        rb_js_error_set(&outcome->error, 10057,
                        "the message before it was deleted at the same time, try again");
        return;
    }
    if (!rb_msgstore_remove(stream->store, command->seq,
                            (command->flags & RB_COMMAND_ERASE) != 0)) {
        rb_js_error_format(&outcome->error, 10043, "%llu", (unsigned long long)command->seq);
        return;
    }
    const struct rb_js_counter_value value = { command->text, command->subject };
    if (before != 0 && !rb_js_counter_note(stream, subject, before, &value)) {
        rb_js_stream_go_offline(stream, "memory was refused while a message was deleted");
    }
}

void rb_js_delete_apply(struct rb_js_stream *stream, const struct rb_command *command,
                        struct rb_js_outcome *outcome)
{
    struct rb_msgstore_state state;
    rb_msgstore_state(stream->store, &state);
    outcome->seq = command->seq;
    if (stream->config->sealed) {
        rb_js_error_set(&outcome->error, 10109, NULL);
    } else if (stream->config->deny_delete) {
        rb_js_error_set(&outcome->error, 10057, "message delete not permitted");
    } else if (command->seq > state.last_seq) {
        rb_js_error_set(&outcome->error, 10057, "stream store EOF");
    } else if (command->seq < state.first_seq) {
        rb_js_error_set(&outcome->error, 10057, "no message found");
    } else {
        delete_message(stream, command, outcome);
    }
}

void rb_js_purge_apply(struct rb_js_stream *stream, const struct rb_command *command,
                       struct rb_js_outcome *outcome)
{
    struct rb_msgstore_state state;
    struct rb_slice filter = command->text;
    rb_msgstore_state(stream->store, &state);
    if (stream->config->sealed) {
        rb_js_error_set(&outcome->error, 10109, NULL);
        return;
    }
    if (stream->config->deny_purge) {
        rb_js_error_set(&outcome->error, 10110, "stream purge not permitted");
        return;
    }
    bool all = filter.len == 0 || rb_slice_equal(filter, RB_S(">"));
    rb_js_stream_purged(stream);
    if (all && command->value == 0) {
        outcome->value = rb_msgstore_purge_below(
            stream->store, command->seq > 0 ? command->seq : state.last_seq + 1);
    } else {
        outcome->value = rb_msgstore_purge(stream->store, all ? rb_slice_of(NULL, 0) : filter,
                                           command->seq, command->value);
    }
}

void rb_js_config_apply(struct rb_js_stream *stream, const struct rb_command *command,
                        struct rb_js_outcome *outcome)
{
    struct rb_arena *arena;
    struct rb_js_stream_config *config;
    uint8_t retention = stream->config->retention;
    int64_t max_age = stream->config->max_age;
    enum rb_err err = rb_js_stream_read_config(command->text, &arena, &config);
    if (err == RB_OK) {
        err = rb_js_stream_set_config(stream, arena, config);
        if (err != RB_OK) {
            rb_arena_destroy(arena);
        }
    }
    if (err != RB_OK) {
        rb_js_stream_go_offline(stream, err == RB_ERR_MEMORY
                                            ? "memory was refused for its configuration"
                                            : "its configuration is not known to this version");
        rb_js_error_set(&outcome->error, 10069, rb_err_text(err));
        return;
    }
    if (!config->allow_batched) {
        rb_js_fast_drop(stream);
    }
    if (config->max_age != max_age) {
        rb_js_expiry_again(&stream->inside->expiry);
    }
    rb_js_stream_limit(stream, rb_slice_of(NULL, 0));
    if (config->retention != retention) {
        rb_js_stream_reconsider(stream);
    }
    if (stream->replaying) {
        return;
    }
    if (rb_js_stream_listen(stream) != RB_OK || rb_js_direct_open(stream) != RB_OK ||
        rb_js_sources_configure(stream) != RB_OK) {
        rb_js_stream_go_offline(stream, "memory budget spent: its subjects are not subscribed");
        return;
    }
    rb_js_stream_arm(stream);
    if (!stream->inside->restoring) {
        rb_js_advise_stream(stream, "modify");
    }
    stream->inside->restoring = false;
}
