/* recover.c - from the log and the stores back to streams.
 *
 *   log open --> home states --> each group: its state is read --> stream made, store opens, checkpoint loaded
 *                                            --> entries behind it are read and applied --> all done: subscribed, served
 *
 * 1. Up to JOBS_MAX groups are on their way at once; each has one read of the log and one buffer.
 * 2. A group that lost something is not served: the stream stands OFFLINE with the reason, its files stay. That decision is put
 *    down in the log before the log may forget its damage.
 * 3. What no record names is left alone: it may be the rest of something damaged.
 */
#include <stdio.h>
#include <string.h>

#include "base/nuid.h"
#include "js/saved.h"
#include "js/stream_inside.h"
#include "ringbus/check.h"

#define JOBS_MAX 8u
#define READ_BYTES (1u << 20)
#define READ_BYTES_MAX (48u << 20)
#define RECORDS_MAX 4096u
#define PROGRESS_NS UINT64_C(1000000000)

enum job_stage { JOB_STATE, JOB_STORE, JOB_CLEAR, JOB_ENTRIES, JOB_DONE };

struct rb_js_recovery {
    struct rb_list link; /* in start->jobs */
    struct rb_js *js;
    struct rb_wal_group_info info;
    enum job_stage stage;
    bool retry; /* the log was busy: again in the next turn */
    uint8_t state_type;
    struct rb_wal_read read;
    uint8_t *bytes;
    uint32_t cap;
    struct rb_js_stream *stream;
    char offline[160]; /* an earlier decision */
    struct rb_wal_record records[RECORDS_MAX];
};

struct rb_js_home_read {
    struct rb_wal_read read;
    struct rb_wal_record record;
    bool begun;
};

struct rb_js_start {
    struct rb_disk_op op;
    struct rb_wal_group_info *groups;
    uint32_t group_count, group_cap, next;
    struct rb_list jobs;
    uint32_t job_count;
    uint64_t total, done, started_ns;
    uint32_t damages;
    bool home_read, listed;
};

static void fail(struct rb_js *js, const char *what, enum rb_err err)
{
    if (!js->failed) {
        js->failed = true;
        (void)snprintf(js->failure, sizeof(js->failure), "%s: %s", what, rb_err_text(err));
        rb_log_err(js->text_log, "JetStream cannot start: %s", js->failure);
    }
}

enum rb_err rb_js_recover_create(struct rb_js *js)
{
    struct rb_js_start *start = rb_alloc(js->budget, sizeof(*start));
    if (start == NULL) {
        return RB_ERR_MEMORY;
    }
    rb_list_init(&start->jobs);
    start->started_ns = js->now_ns;
    start->op.owner = js;
    enum rb_err err = rb_disk_make_directory(js->disk, &start->op, "streams");
    if (err != RB_OK) {
        rb_free(js->budget, start, sizeof(*start));
        return err;
    }
    js->start = start;
    return RB_OK;
}

void rb_js_recover_disk(struct rb_js *js, struct rb_disk_op *op)
{
    enum rb_err err = op->err;
    if (err == RB_OK && op->kind == RB_DISK_MAKE_DIRECTORY) {
        err = rb_disk_sync_directory(js->disk, op, ".");
        if (err == RB_OK) {
            return;
        }
    }
    if (err != RB_OK) {
        fail(js, "its directory for streams cannot be made", err);
        return;
    }
    js->streams_directory = true;
}

/* ---- the list of groups ---- */

static bool list_groups(struct rb_js *js)
{
    struct rb_js_start *start = js->start;
    struct rb_wal_group_info info;
    for (uint32_t at = 0; rb_wal_group_next(js->log, &at, &info);) {
        if (start->group_count == start->group_cap) {
            uint32_t cap = start->group_cap == 0 ? 64 : 2 * start->group_cap;
            struct rb_wal_group_info *groups =
                rb_realloc(js->budget, start->groups, start->group_cap * sizeof(*groups),
                           cap * sizeof(*groups));
            if (groups == NULL) {
                return false;
            }
            start->groups = groups;
            start->group_cap = cap;
        }
        if (info.id >= js->next_group) {
            js->next_group = info.id + 1;
        }
        if (info.id == RB_JS_HOME_GROUP) {
            continue;
        }
        start->total += info.last - info.base;
        start->groups[start->group_count++] = info;
    }
    return true;
}

/* Files whose removal was put down: of groups that are gone they go now, of others the drop did not happen. */
static bool remove_dropped(struct rb_js *js)
{
    uint64_t keys[64];
    uint32_t count = 0;
    bool good = true;
    struct rb_wal_state_at at = { 0 };
    while (count < 64 && rb_wal_state_next(js->log, RB_JS_HOME_GROUP, &at)) {
        if (at.type == RB_JS_STATE_DROPPING) {
            keys[count++] = at.key;
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        struct rb_wal_group_info info;
        if (keys[i] >= js->next_group) {
            js->next_group = keys[i] + 1;
        }
        if (rb_wal_group(js->log, keys[i], &info)) {
            rb_js_recover_dropped(js, keys[i]);
        } else {
            good &= rb_js_recover_remove_files(js, keys[i]) == RB_OK;
        }
    }
    return good;
}

void rb_js_recover_begin(struct rb_js *js)
{
    if (!list_groups(js)) {
        fail(js, "its groups cannot be listed", RB_ERR_MEMORY);
    }
}

void rb_js_recover_damage(struct rb_js *js, const struct rb_wal_damage *damage)
{
    rb_log_err(js->text_log,
               "JetStream: the log is damaged: %s, %llu bytes at %llu (batches %llu from %llu)",
               damage->file, (unsigned long long)damage->bytes, (unsigned long long)damage->offset,
               (unsigned long long)damage->batches, (unsigned long long)damage->first_batch);
    if (js->start != NULL) {
        js->start->damages++;
    }
}

/* ---- jobs ---- */

static bool need_bytes(struct rb_js_recovery *job, uint32_t bytes)
{
    if (job->cap >= bytes) {
        return true;
    }
    rb_disk_free(job->js->disk, job->bytes, job->cap);
    job->cap = 0;
    job->bytes = rb_disk_alloc(job->js->disk, bytes);
    if (job->bytes != NULL) {
        job->cap = bytes;
    }
    return job->bytes != NULL;
}

static void end_job(struct rb_js_recovery *job)
{
    struct rb_js *js = job->js;
    rb_list_remove(&job->link);
    js->start->job_count--;
    if (job->stream != NULL) {
        job->stream->inside->recovery = NULL;
    }
    rb_disk_free(js->disk, job->bytes, job->cap);
    rb_free(js->budget, job, sizeof(*job));
}

/* The stream stays, unserved; `decide`: this is put down. */
static void end_offline(struct rb_js_recovery *job, const char *why, bool decide)
{
    if (decide) {
        rb_js_recover_put_offline(job->js, job->info.id, why);
    }
    rb_js_stream_go_offline(job->stream, why);
    end_job(job);
}

/* Nobody knows whose it is: left alone, and named. */
static void end_unknown(struct rb_js_recovery *job, const char *why)
{
    rb_log_err(job->js->text_log, "JetStream group %llu is not served, its files stay: %s",
               (unsigned long long)job->info.id, why);
    end_job(job);
}

static void begin_read(struct rb_js_recovery *job)
{
    struct rb_js *js = job->js;
    job->retry = false;
    job->read.owner = job;
    job->read.bytes = job->bytes;
    job->read.len = job->cap;
    job->read.records = job->records;
    job->read.record_max = RECORDS_MAX;
    enum rb_err err = job->stage == JOB_STATE
                          ? rb_wal_read_state(js->log, &job->read, job->info.id, job->state_type, 0)
                          : rb_wal_read_entries(js->log, &job->read, job->info.id,
                                                job->stream->group.applied + 1);
    if (err == RB_OK) {
        return;
    }
    if (err == RB_ERR_FULL || err == RB_ERR_BUSY) {
        job->retry = true;
    } else if (err == RB_ERR_INVALID && job->cap < READ_BYTES_MAX) {
        if (need_bytes(job, job->cap * 2 > READ_BYTES_MAX ? READ_BYTES_MAX : job->cap * 2)) {
            begin_read(job);
        } else {
            fail(js, "no memory to read the log", RB_ERR_MEMORY);
        }
    } else if (job->stage == JOB_STATE) {
        end_unknown(job, "its record in the log cannot be read");
    } else {
        char why[160];
        (void)snprintf(why, sizeof(why), "damaged: entry %llu of the log cannot be read (%s)",
                       (unsigned long long)(job->stream->group.applied + 1), rb_err_text(err));
        end_offline(job, why, err == RB_ERR_CORRUPT);
    }
}

static void begin_job(struct rb_js *js, const struct rb_wal_group_info *info)
{
    struct rb_js_start *start = js->start;
    struct rb_js_recovery *job = rb_alloc(js->budget, sizeof(*job));
    if (job == NULL) {
        fail(js, "no memory to read the log", RB_ERR_MEMORY);
        return;
    }
    job->js = js;
    job->info = *info;
    rb_list_append(&start->jobs, &job->link);
    start->job_count++;
    struct rb_wal_state_at at = { 0 };
    uint32_t bytes = 0;
    while (rb_wal_state_next(js->log, info->id, &at)) {
        if (at.type == RB_JS_STATE_OFFLINE) {
            job->state_type = RB_JS_STATE_OFFLINE;
        }
        bytes = at.body_bytes > bytes ? at.body_bytes : bytes;
    }
    if (job->state_type == 0) {
        job->state_type = RB_JS_STATE_STREAM;
    }
    uint32_t need = rb_wal_read_bytes(bytes);
    if (!need_bytes(job, need < READ_BYTES ? READ_BYTES : need)) {
        fail(js, "no memory to read the log", RB_ERR_MEMORY);
        return;
    }
    begin_read(job);
}

/* ---- one group ---- */

/* The account, made by name; NULL: not here. */
static struct rb_js_account *account_of(struct rb_js *js, struct rb_slice name)
{
    uint32_t id = js->options.account_id(js->options.ctx, name);
    struct rb_account *account = id == UINT32_MAX ? NULL : rb_account_get(js->core, id);
    return account == NULL ? NULL : rb_js_account_need(js, account);
}

static void cannot_open(struct rb_js_recovery *job, enum rb_err err)
{
    char why[160];
    (void)snprintf(why, sizeof(why), "its store cannot be opened: %s", rb_err_text(err));
    end_offline(job, why, false);
}

static void open_store(struct rb_js_recovery *job)
{
    job->stage = JOB_STORE;
    if (job->offline[0] != '\0') {
        end_offline(job, job->offline, false);
        return;
    }
    if (job->info.damaged) {
        char why[160];
        (void)snprintf(why, sizeof(why), "damaged: the log lost at least %llu of its entries",
                       (unsigned long long)job->info.lost_count);
        end_offline(job, why, true);
        return;
    }
    if (job->info.in_doubt) {
        rb_log_wrn(job->js->text_log,
                   "JetStream stream \"%.*s\": the log is damaged behind its last record: its "
                   "newest messages may be missing",
                   RB_S_ARG(job->stream->name));
    }
    enum rb_err err = rb_js_stream_open_store(job->stream);
    job->retry = err == RB_ERR_FULL;
    if (err != RB_OK && err != RB_ERR_FULL) {
        cannot_open(job, err);
    }
}

static void make_stream(struct rb_js_recovery *job, struct rb_slice body)
{
    struct rb_js *js = job->js;
    struct rb_reader reader = rb_reader_over(body);
    uint64_t version = rb_read_u64(&reader), created_ns = rb_read_u64(&reader);
    struct rb_slice account_name = rb_js_get_text(&reader), name = rb_js_get_text(&reader);
    struct rb_slice json = rb_js_get_text(&reader);
    struct rb_arena *arena;
    struct rb_js_stream_config *config;
    if (!rb_reader_ok(&reader) || version != RB_JS_STATE_VERSION ||
        rb_js_stream_read_config(json, &arena, &config) != RB_OK) {
        end_unknown(job, "its record is not known to this version");
        return;
    }
    struct rb_js_account *account = account_of(js, account_name);
    if (account == NULL || !rb_slice_equal(config->name, name) ||
        rb_js_stream_any(account, name) != NULL) {
        end_unknown(job, account == NULL ? "its account is not served here"
                                         : "its name is that of another one");
    } else if (rb_js_stream_make(account, job->info.id, created_ns, config, &job->stream) !=
               RB_OK) {
        job->stream = NULL;
        fail(js, "no memory for its streams", RB_ERR_MEMORY);
    } else {
        job->stream->replaying = true;
        job->stream->inside->recovery = job;
        open_store(job);
    }
    rb_arena_destroy(arena);
}

static void replayed(struct rb_js_recovery *job)
{
    job->stage = JOB_DONE;
    end_job(job);
}

static void go_on(struct rb_js_recovery *job)
{
    if (job->stream->phase == RB_JS_STREAM_OFFLINE) {
        end_job(job);
    } else if (job->stream->group.applied >= job->info.last) {
        replayed(job);
    } else {
        begin_read(job);
    }
}

/* The checkpoint is ahead of the log (commands are written behind): the log goes on behind it. */
static enum rb_err skip_log(struct rb_js_recovery *job, uint64_t restored)
{
    struct rb_js_stream *stream = job->stream;
    stream->inside->prefix_write =
        (struct rb_wal_write){ .owner = stream, .tag = RB_JS_WRITE_STREAM };
    return rb_wal_drop_prefix(job->js->log, &stream->inside->prefix_write, job->info.id, restored,
                              stream->group.term);
}

/*
 * The store lost its checkpoints and was put together from its messages alone: what is beside them (ids, consumers) is gone. When
 * the log still has everything, the stream is made from it once more, in an empty store.
 */
static bool made_anew(struct rb_js_recovery *job)
{
    struct rb_js_stream *stream = job->stream;
    struct rb_msgstore_state state;
    rb_msgstore_state(stream->store, &state);
    if (state.last_seq == 0 || job->info.base > 0) {
        return false;
    }
    rb_log_wrn(job->js->text_log,
               "JetStream stream \"%.*s\": its checkpoints are lost, it is made again from the log",
               RB_S_ARG(stream->name));
    rb_js_stream_uncount(stream);
    rb_msgstore_destroy(stream->store);
    stream->store = NULL;
    job->stage = JOB_CLEAR;
    return true;
}

void rb_js_recover_store_closed(struct rb_js_stream *stream)
{
    open_store(stream->inside->recovery);
}

void rb_js_recover_store_opened(struct rb_js_stream *stream, enum rb_err err)
{
    struct rb_js_recovery *job = stream->inside->recovery;
    struct rb_slice blob;
    if (err != RB_OK) {
        cannot_open(job, err);
        return;
    }
    uint64_t restored = rb_msgstore_restored(stream->store, &blob);
    if (restored > 0) {
        err = rb_js_stream_load(stream, blob);
        if (err != RB_OK) {
            end_offline(job,
                        err == RB_ERR_UNSUPPORTED ? "its checkpoint is of a newer version"
                                                  : "damaged: its checkpoint cannot be read",
                        false);
            return;
        }
    } else if (made_anew(job)) {
        return;
    } else if (stream->config->first_seq > 1) {
        rb_msgstore_skip(stream->store, stream->config->first_seq - 1);
    }
    if (restored < job->info.base) {
        end_offline(job, "damaged: its checkpoints are older than the log", false);
        return;
    }
    struct rb_js_group *group = &stream->group;
    group->last = group->committed = group->applied = restored;
    job->stage = JOB_ENTRIES;
    if (restored > job->info.last && skip_log(job, restored) != RB_OK) {
        end_offline(job, "the log cannot go on behind its checkpoint", false);
        return;
    }
    rb_js_stream_settle(stream);
    go_on(job);
}

static void replay(struct rb_js_recovery *job)
{
    for (uint32_t i = 0; i < job->read.record_count; i++) {
        enum rb_err err = rb_js_group_replay(&job->stream->group, &job->records[i]);
        job->js->start->done++;
        if (err != RB_OK) {
            char why[160];
            (void)snprintf(why, sizeof(why), "entry %llu of its log is not known to this version",
                           (unsigned long long)job->records[i].index);
            end_offline(job, why, false);
            return;
        }
        if (job->stream->phase == RB_JS_STREAM_OFFLINE) {
            break;
        }
    }
    go_on(job);
}

void rb_js_recover_read(struct rb_js *js, struct rb_wal_read *read)
{
    struct rb_js_recovery *job = read->owner;
    if (js->failed || js->closing) {
        return;
    }
    if (job == NULL) { /* the ids that were given out */
        struct rb_reader reader =
            rb_reader_over(read->err == RB_OK && read->record_count == 1 ? read->records[0].body
                                                                         : rb_slice_of(NULL, 0));
        uint64_t until = rb_read_u64(&reader);
        js->next_group = until > js->next_group ? until : js->next_group;
        js->start->home_read = true;
        return;
    }
    if (read->err != RB_OK) {
        if (job->stage == JOB_STATE) {
            end_unknown(job, "its record in the log is damaged");
        } else {
            char why[160];
            (void)snprintf(why, sizeof(why), "damaged: entry %llu of the log cannot be read (%s)",
                           (unsigned long long)(job->stream->group.applied + 1),
                           rb_err_text(read->err));
            end_offline(job, why, read->err == RB_ERR_CORRUPT);
        }
    } else if (job->stage == JOB_ENTRIES) {
        replay(job);
    } else if (job->state_type == RB_JS_STATE_OFFLINE) {
        (void)snprintf(job->offline, sizeof(job->offline), "%.*s", RB_S_ARG(job->records[0].body));
        job->state_type = RB_JS_STATE_STREAM;
        begin_read(job);
    } else {
        make_stream(job, job->records[0].body);
    }
}

/* ---- all of it ---- */

/* A restore was going on when the server died: what it had is of no use to anybody. */
static bool half_restored(const struct rb_js_stream *stream)
{
    struct rb_slice prefix = RB_S("_RESTORE_.");
    const struct rb_doc_strings *subjects = &stream->config->subjects;
    return subjects->count == 1 && subjects->items[0].len == prefix.len + RB_NUID_LEN &&
           memcmp(subjects->items[0].ptr, prefix.ptr, prefix.len) == 0;
}

static void drop_half_restored(struct rb_js_stream *stream)
{
    rb_log_wrn(
        stream->account->js->text_log,
        "JetStream stream \"%.*s\" of account \"%.*s\" is removed: its restore was not finished",
        RB_S_ARG(stream->name), RB_S_ARG(stream->account->account->name));
    rb_js_stream_drop(stream);
}

/* In nats-server's words; tools wait for them. Streams are recovered side by side: the time is that of all. */
static void log_restored(const struct rb_js_stream *stream, uint64_t ms)
{
    struct rb_msgstore_state state;
    char digits[24], text[32];
    rb_msgstore_state(stream->store, &state);
    int len = snprintf(digits, sizeof(digits), "%llu", (unsigned long long)state.messages), at = 0;
    for (int i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0) {
            text[at++] = ',';
        }
        text[at++] = digits[i];
    }
    rb_log_inf(stream->account->js->text_log,
               "  Restored %.*s messages for stream '%.*s > %.*s' in %llums", at, text,
               RB_S_ARG(stream->account->account->name), RB_S_ARG(stream->name),
               (unsigned long long)ms);
}

static void finish(struct rb_js *js)
{
    struct rb_js_start *start = js->start;
    uint64_t ms = (js->now_ns - start->started_ns) / 1000000;
    uint32_t streams = 0;
    for (struct rb_list *at = js->accounts.next; at != &js->accounts; at = at->next) {
        struct rb_js_account *own = RB_CONTAINER(at, struct rb_js_account, link);
        for (struct rb_list *link = own->streams.next, *next; link != &own->streams; link = next) {
            struct rb_js_stream *stream = RB_CONTAINER(link, struct rb_js_stream, link);
            next = link->next;
            streams++;
            if (stream->phase == RB_JS_STREAM_OPENING && half_restored(stream)) {
                drop_half_restored(stream);
            } else if (stream->phase == RB_JS_STREAM_OPENING) {
                rb_js_stream_opened(stream);
                log_restored(stream, ms);
                if (stream->inside
                        ->damaged) { /* its checkpoints may be gone, and the log is shorter than it */
                    rb_js_checkpoint(stream, true);
                }
            }
        }
    }
    if (start->damages > 0) {
        rb_js_recover_decided(js);
    }
    if (streams > 0) {
        rb_log_inf(js->text_log,
                   "JetStream: %u streams recovered in %llu ms, %llu commands applied", streams,
                   (unsigned long long)ms, (unsigned long long)start->done);
    }
    rb_free(js->budget, start->groups, start->group_cap * sizeof(*start->groups));
    rb_free(js->budget, start, sizeof(*start));
    js->start = NULL;
    js->ready_to_serve = true;
    rb_js_checkpoint_timer(js);
}

/* Reads which ids were given out; the read and its memory are those of a job without stream. */
static void read_home(struct rb_js *js)
{
    struct rb_js_start *start = js->start;
    struct rb_wal_state_at at = { 0 };
    bool found = false;
    while (rb_wal_state_next(js->log, RB_JS_HOME_GROUP, &at)) {
        found |= at.type == RB_JS_STATE_NEXT;
    }
    if (!found) {
        start->home_read = true;
        return;
    }
    if (js->home_read == NULL) {
        js->home_read = rb_alloc(js->budget, sizeof(*js->home_read));
        uint8_t *bytes = rb_disk_alloc(js->disk, rb_wal_read_bytes(8));
        if (js->home_read == NULL || bytes == NULL) {
            rb_disk_free(js->disk, bytes, rb_wal_read_bytes(8));
            fail(js, "no memory to read the log", RB_ERR_MEMORY);
            return;
        }
        js->home_read->read = (struct rb_wal_read){ .bytes = bytes,
                                                    .len = rb_wal_read_bytes(8),
                                                    .records = &js->home_read->record,
                                                    .record_max = 1 };
    }
    if (js->home_read->read.in_flight || js->home_read->begun) {
        return;
    }
    enum rb_err err =
        rb_wal_read_state(js->log, &js->home_read->read, RB_JS_HOME_GROUP, RB_JS_STATE_NEXT, 0);
    js->home_read->begun = err == RB_OK;
    if (err == RB_ERR_CORRUPT) { /* ids beyond all that are known: as if a thousand had been lost */
        js->next_group += 1000;
        start->home_read = true;
    } else if (err != RB_OK && err != RB_ERR_FULL && err != RB_ERR_BUSY) {
        fail(js, "the log cannot be read", err);
    }
}

void rb_js_recover_turn(struct rb_js *js)
{
    struct rb_js_start *start = js->start;
    if (start == NULL || !js->log_opened || !js->streams_directory || js->failed || js->closing) {
        return;
    }
    if (!start->home_read) {
        read_home(js);
        return;
    }
    if (!start->listed) {
        start->listed = true;
        if (!remove_dropped(js)) {
            fail(js, "files of deleted streams cannot be removed", RB_ERR_MEMORY);
            return;
        }
    }
    for (struct rb_list *link = start->jobs.next, *next; link != &start->jobs; link = next) {
        struct rb_js_recovery *job = RB_CONTAINER(link, struct rb_js_recovery, link);
        next = link->next;
        if (job->retry) {
            if (job->stage == JOB_STORE) {
                open_store(job);
            } else {
                begin_read(job);
            }
        }
    }
    while (start->job_count < JOBS_MAX && start->next < start->group_count && !js->failed) {
        begin_job(js, &start->groups[start->next++]);
    }
    if (start->job_count == 0 && start->next == start->group_count && !js->failed) {
        finish(js);
    }
}

bool rb_js_recover_idle(const struct rb_js *js)
{
    bool reading = js->home_read != NULL && js->home_read->read.in_flight;
    if (js->start != NULL) {
        reading |= js->start->op.in_flight;
        for (struct rb_list *link = js->start->jobs.next; link != &js->start->jobs;
             link = link->next) {
            struct rb_js_recovery *job = RB_CONTAINER(link, struct rb_js_recovery, link);
            reading |= job->read.in_flight;
        }
    }
    return !reading && rb_js_home_idle(js);
}

static size_t with_commas(char *out, uint64_t value)
{
    char digits[24];
    size_t len = (size_t)snprintf(digits, sizeof(digits), "%llu", (unsigned long long)value);
    size_t at = 0;
    for (size_t i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0) {
            out[at++] = ',';
        }
        out[at++] = digits[i];
    }
    out[at] = '\0';
    return at;
}

struct rb_slice rb_js_recover_progress(struct rb_js *js, char *out, size_t cap)
{
    char done[40], total[40];
    struct rb_js_start *start = js->start;
    if (start == NULL || js->now_ns - start->started_ns < PROGRESS_NS) {
        return rb_slice_of(NULL, 0);
    }
    if (!js->log_opened) {
        return rb_slice_of(out, (size_t)snprintf(out, cap, "reading the log"));
    }
    (void)with_commas(done, start->done);
    (void)with_commas(total, start->total);
    int len = snprintf(out, cap, "recovering %s of %s messages", done, total);
    return rb_slice_of(out, (size_t)len < cap ? (size_t)len : cap - 1);
}

void rb_js_recover_deinit(struct rb_js *js)
{
    if (js->home_read != NULL) {
        rb_disk_free(js->disk, js->home_read->read.bytes, rb_wal_read_bytes(8));
        rb_free(js->budget, js->home_read, sizeof(*js->home_read));
    }
    if (js->start != NULL) {
        while (!rb_list_empty(&js->start->jobs)) {
            end_job(RB_CONTAINER(js->start->jobs.next, struct rb_js_recovery, link));
        }
        rb_free(js->budget, js->start->groups, js->start->group_cap * sizeof(*js->start->groups));
        rb_free(js->budget, js->start, sizeof(*js->start));
    }
    rb_js_home_deinit(js);
}
