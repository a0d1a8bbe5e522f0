/* group.c - a raft group of one voter: what is durable is committed.
 *
 *   pending:  [sent, durable first ...][sent ...][unsent ...]
 *
 * 1. `pending` is in order of indexes. Entries up to `unsent` were taken by the log, the others have an index, too, and nobody
 *    overtakes them.
 * 2. Events of writes come in order, so the entry of an event is the first of `pending` (of a lazy group: that or one that was
 *    applied already and only waits for its write).
 * 3. apply() and done() may propose, and may stop this group; its memory outlives them: entries are taken off before.
 */
#include "js/group.h"

#include <string.h>

#include "js/js.h"
#include "ringbus/check.h"

#define PENDING_MAX 100000u
#define PENDING_BYTES_MAX (128u << 20)
#define TERM 1u

struct rb_js_entry {
    struct rb_list link; /* in group->pending */
    struct rb_wal_write write;
    struct rb_js_group *group;
    struct rb_js_waiter *waiter; /* may be &replier.waiter; NULL: nobody waits */
    struct rb_js_replier replier;
    uint64_t index, proposed_ns;
    uint32_t body_bytes, bytes; /* bytes: of the block */
    uint8_t type;
    bool applied;
    uint8_t body[]; /* the command, then the reply subject */
};

void rb_js_group_init(struct rb_js_group *group, const struct rb_js_group_options *options)
{
    *group = (struct rb_js_group){ .options = *options, .term = TERM };
    if (group->options.pending_max == 0) {
        group->options.pending_max = PENDING_MAX;
    }
    if (group->options.pending_bytes_max == 0) {
        group->options.pending_bytes_max = PENDING_BYTES_MAX;
    }
    rb_list_init(&group->pending);
    rb_list_init(&group->link);
}

void rb_js_group_deinit(struct rb_js_group *group)
{
    rb_assert(rb_list_empty(&group->pending) && group->pending_count == 0);
    rb_list_remove(&group->link);
}

static void want_turn(struct rb_js_group *group)
{
    if (rb_list_empty(&group->link)) {
        rb_list_append(group->options.ready, &group->link);
    }
}

static struct rb_js_entry *entry_of(struct rb_list *link)
{
    return RB_CONTAINER(link, struct rb_js_entry, link);
}

static struct rb_js_entry *next_entry(struct rb_js_group *group, struct rb_js_entry *entry)
{
    return entry->link.next == &group->pending ? NULL : entry_of(entry->link.next);
}

static void unlink_entry(struct rb_js_group *group, struct rb_js_entry *entry)
{
    rb_list_remove(&entry->link);
    group->pending_count--;
    group->pending_bytes -= entry->body_bytes;
}

static void free_entry(struct rb_js_group *group, struct rb_js_entry *entry)
{
    rb_js_pools_give(group->options.pools, entry, entry->bytes);
}

static void tell(struct rb_js_entry *entry, enum rb_err err, const void *outcome)
{
    struct rb_js_waiter *waiter = entry->waiter;
    entry->waiter = NULL;
    if (waiter != NULL) {
        waiter->done(waiter, err, outcome);
    }
}

static void apply(struct rb_js_group *group, struct rb_js_entry *entry)
{
    struct rb_command command;
    rb_assert(entry->index == group->applied + 1);
    enum rb_err err =
        rb_command_decode(entry->type, rb_slice_of(entry->body, entry->body_bytes), &command);
    rb_assert(err == RB_OK); /* we encoded it */
    const void *outcome = NULL;
    group->committed = group->applied = entry->index;
    group->log_bytes += entry->body_bytes;
    entry->applied = true;
    group->options.apply(group->options.owner, &command, entry->index, &outcome);
    tell(entry, RB_OK, outcome);
}

/* Takes the log's answer to an attempt: OK, FULL (later), or an error that is final for this entry. */
static enum rb_err send(struct rb_js_group *group, struct rb_js_entry *entry)
{
    entry->write = (struct rb_wal_write){ .owner = entry, .tag = RB_JS_WRITE_ENTRY };
    bool grows = entry->type == RB_COMMAND_PUBLISH || entry->type == RB_COMMAND_BATCH ||
                 entry->type == RB_COMMAND_SKIP || entry->type == RB_COMMAND_CONSUMER;
    return (grows ? rb_wal_append : rb_wal_append_urgent)(
        group->options.log, &entry->write, group->options.id, group->term, entry->index,
        entry->type, rb_slice_of(entry->body, entry->body_bytes));
}

static struct rb_js_entry *make_entry(struct rb_js_group *group, const struct rb_command *command,
                                      struct rb_slice reply)
{
    size_t body_bytes = rb_command_bytes(command);
    size_t bytes = sizeof(struct rb_js_entry) + body_bytes + reply.len;
    struct rb_js_entry *entry = rb_js_pools_take(group->options.pools, bytes);
    if (entry == NULL) {
        return NULL;
    }
    entry->group = group;
    entry->waiter = NULL;
    entry->index = group->last + 1;
    entry->proposed_ns = group->options.commit_ns == NULL ? 0 : rb_env_now(group->options.env);
    entry->body_bytes = (uint32_t)body_bytes;
    entry->bytes = (uint32_t)bytes;
    entry->type = command->type;
    entry->applied = false;
    rb_command_encode(command, entry->body);
    if (reply.len > 0) {
        memcpy(entry->body + body_bytes, reply.ptr, reply.len);
    }
    return entry;
}

/* RB_ERR_FULL of the log is no error here: the entry waits. */
static enum rb_err first_send(struct rb_js_group *group, struct rb_js_entry *entry)
{
    if (group->options.log == NULL) {
        want_turn(group);
        return RB_OK;
    }
    enum rb_err err = group->unsent != NULL ? RB_ERR_FULL : send(group, entry);
    if (err == RB_ERR_FULL && group->unsent == NULL) {
        group->unsent = entry;
    }
    group->log_busy = err == RB_ERR_FULL;
    if (err == RB_ERR_FULL || (err == RB_OK && group->options.lazy)) {
        want_turn(group);
        return RB_OK;
    }
    group->no_space |= err == RB_ERR_SPACE;
    return err;
}

static enum rb_err propose(struct rb_js_group *group, const struct rb_command *command,
                           struct rb_slice reply, struct rb_js_entry **ret_entry)
{
    if (group->stopped) {
        return RB_ERR_IO;
    }
    size_t bytes = rb_command_bytes(command);
    if (bytes > RB_WAL_BODY_MAX) {
        return RB_ERR_LIMIT;
    }
    if (group->pending_count >= group->options.pending_max ||
        (group->pending_count > 0 &&
         group->pending_bytes + bytes > group->options.pending_bytes_max)) {
        return RB_ERR_FULL;
    }
    struct rb_js_entry *entry = make_entry(group, command, reply);
    if (entry == NULL) {
        return RB_ERR_MEMORY;
    }
    enum rb_err err = first_send(group, entry);
    if (err != RB_OK) {
        free_entry(group, entry);
        return err == RB_ERR_INVALID ? RB_ERR_LIMIT : err; /* the log was opened with less */
    }
    group->last = entry->index;
    rb_list_append(&group->pending, &entry->link);
    group->pending_count++;
    group->pending_bytes += entry->body_bytes;
    *ret_entry = entry;
    return RB_OK;
}

enum rb_err rb_js_group_propose(struct rb_js_group *group, const struct rb_command *command,
                                struct rb_js_waiter *waiter)
{
    struct rb_js_entry *entry;
    enum rb_err err = propose(group, command, rb_slice_of(NULL, 0), &entry);
    if (err == RB_OK) {
        entry->waiter = waiter;
    }
    return err;
}

enum rb_err rb_js_group_propose_reply(struct rb_js_group *group, const struct rb_command *command,
                                      void (*done)(struct rb_js_waiter *waiter, enum rb_err err,
                                                   const void *outcome),
                                      void *ctx, struct rb_slice reply)
{
    struct rb_js_entry *entry;
    enum rb_err err = propose(group, command, reply, &entry);
    if (err == RB_OK) {
        entry->replier = (struct rb_js_replier){
            .waiter = { done },
            .ctx = ctx,
            .reply = rb_slice_of(entry->body + entry->body_bytes, reply.len),
        };
        entry->waiter = &entry->replier.waiter;
    }
    return err;
}

/* Unsent entries have no write: they can end at once. */
static void fail_unsent(struct rb_js_group *group, enum rb_err err)
{
    struct rb_js_entry *entry = group->unsent;
    group->unsent = NULL;
    struct rb_list failed;
    rb_list_init(&failed);
    while (entry != NULL) {
        struct rb_js_entry *next = next_entry(group, entry);
        group->last = entry->index - 1 < group->last ? entry->index - 1 : group->last;
        unlink_entry(group, entry);
        rb_list_append(&failed, &entry->link);
        entry = next;
    }
    for (struct rb_list *link; (link = rb_list_pop(&failed)) != NULL;) {
        entry = entry_of(link);
        tell(entry, err, NULL);
        free_entry(group, entry);
    }
}

void rb_js_group_stop(struct rb_js_group *group, enum rb_err err)
{
    if (group->stopped) {
        return;
    }
    group->stopped = true;
    group->stopped_by = err;
    if (group->options.log == NULL && !rb_list_empty(&group->pending)) {
        group->unsent = entry_of(group->pending.next);
    }
    fail_unsent(group, err);
}

void rb_js_group_abandon(struct rb_js_group *group)
{
    group->stopped = true;
    group->stopped_by = RB_ERR_CANCELED;
    group->unsent = NULL;
    while (!rb_list_empty(&group->pending)) {
        struct rb_js_entry *entry = entry_of(group->pending.next);
        unlink_entry(group, entry);
        tell(entry, RB_ERR_CANCELED, NULL);
        free_entry(group, entry);
    }
}

void rb_js_group_room(struct rb_js_group *group)
{
    group->no_space = group->log_busy = false;
    if (group->unsent != NULL) {
        want_turn(group);
    }
}

static void end_entry(struct rb_js_group *group, struct rb_js_entry *entry, enum rb_err err)
{
    unlink_entry(group, entry);
    if (err != RB_OK && !group->stopped) {
        rb_js_group_stop(group, err);
    }
    if (!entry->applied && !group->stopped) {
        apply(group, entry);
    }
    tell(entry, group->stopped ? group->stopped_by : err, NULL);
    free_entry(group, entry);
}

void rb_js_group_written(struct rb_wal_write *write)
{
    rb_assert(write->tag == RB_JS_WRITE_ENTRY);
    struct rb_js_entry *entry = write->owner;
    struct rb_js_group *group = entry->group;
    rb_assert(entry == entry_of(group->pending.next)); /* invariant 2 */
    if (write->err == RB_OK && group->options.commit_ns != NULL) {
        rb_histogram_add(group->options.commit_ns,
                         rb_env_now(group->options.env) - entry->proposed_ns);
    }
    end_entry(group, entry, write->err);
}

/* True: some were sent, or ended. */
static bool send_unsent(struct rb_js_group *group)
{
    bool worked = false;
    group->log_busy = false;
    while (group->unsent != NULL) {
        enum rb_err err = send(group, group->unsent);
        if (err == RB_ERR_FULL) {
            group->log_busy = true;
            want_turn(group);
            return worked;
        }
        worked = true;
        if (err != RB_OK) {
            group->no_space |= err == RB_ERR_SPACE;
            fail_unsent(group, err);
            return true;
        }
        group->unsent = next_entry(group, group->unsent);
    }
    return worked;
}

/* Commands that apply() proposes meanwhile wait for the next turn. */
static void commit_memory(struct rb_js_group *group)
{
    uint64_t through = group->last;
    while (!rb_list_empty(&group->pending) && !group->stopped) {
        struct rb_js_entry *entry = entry_of(group->pending.next);
        if (entry->index > through) {
            break;
        }
        end_entry(group, entry, RB_OK);
    }
}

static void commit_lazy(struct rb_js_group *group)
{
    uint64_t through = group->unsent == NULL ? group->last : group->unsent->index - 1;
    struct rb_js_entry *entry =
        rb_list_empty(&group->pending) ? NULL : entry_of(group->pending.next);
    for (; entry != NULL && entry->index <= through && !group->stopped;
         entry = next_entry(group, entry)) {
        if (!entry->applied) {
            apply(group, entry);
        }
    }
}

bool rb_js_group_turn(struct rb_js_group *group)
{
    rb_list_remove(&group->link);
    if (group->stopped) {
        return false;
    }
    if (group->options.log == NULL) {
        commit_memory(group);
        if (group->pending_count > 0) {
            want_turn(group);
        }
        return true;
    }
    bool worked = send_unsent(group);
    if (group->options.lazy) {
        commit_lazy(group);
    }
    return worked;
}

enum rb_err rb_js_group_replay(struct rb_js_group *group, const struct rb_wal_record *record)
{
    struct rb_command command;
    rb_assert(rb_list_empty(&group->pending));
    if (record->kind != RB_WAL_ENTRY || record->index != group->applied + 1) {
        return RB_ERR_CORRUPT;
    }
    enum rb_err err = rb_command_decode(record->type, record->body, &command);
    if (err != RB_OK) {
        return err;
    }
    const void *outcome = NULL;
    group->last = group->committed = group->applied = record->index;
    group->log_bytes += record->body.len;
    group->options.apply(group->options.owner, &command, record->index, &outcome);
    return RB_OK;
}
