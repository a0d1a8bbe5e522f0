/* msgstore_model.c - a message store that is too simple to be wrong (docs of each call: ringbus/msgstore.h).
 *
 * Invariants:
 *  1. `messages` is ascending by sequence; every question is a scan of it. Nothing is cached but the sums in `state`.
 *  2. A file store on the shelf is at most two images: its newest checkpoint, and the one before.
 *  3. Events come out of poll() only: those queued first, then LOADED in the order of the gets.
 */
#include "msgstore_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ringbus/check.h"

#include "proto/subject.h"

struct message {
    uint64_t seq, time_ns, bytes;
    uint8_t *content; /* subject, then payload */
    uint32_t subject_len, payload_len, header_len;
    bool warm, damaged, damage_named;
};

/** Messages and what is left of those that went. */
struct image {
    struct message *messages;
    size_t count, cap;
    uint64_t first_seq, last_seq, last_ns, bytes;
    uint64_t index; /* of a checkpoint */
    uint8_t *blob;
    size_t blob_len;
};

struct shelf {
    struct rb_disk *disk;
    char *directory;
    bool open;
    uint32_t image_count; /* newest last */
    struct image images[2];
    struct shelf *next;
};
static struct shelf *shelves;

struct load {
    struct rb_msgstore_wait *wait;
    uint64_t seq;
};

struct rb_msgstore {
    struct rb_msgstore_home *home;
    struct rb_msgstore *next;
    void *owner;
    void (*removed)(void *owner, uint64_t seq, uint64_t bytes, struct rb_slice subject);
    bool subjects, cold, closing, checkpointing;
    enum rb_err checkpoint_err;
    struct shelf *shelf; /* NULL: memory */
    struct image now, taken;
    uint8_t *restored;
    size_t restored_len;
    uint64_t restored_index, checkpoint_index;
    struct load *loads;
    size_t load_count, load_cap;
    struct rb_msgstore_cursor *cursors;
};

struct rb_msgstore_home {
    struct rb_msgstore_home_options options;
    struct rb_msgstore *stores;
    struct rb_msgstore_event *queue;
    size_t queue_count, queue_cap;
    struct rb_msgstore_event given[RB_MSGSTORE_EVENTS_MAX];
    char text[128];
    bool hold_loads, hold_checkpoints, pressure;
    enum rb_err fail_checkpoints, fail_opens;
    struct rb_msgstore_home_stats stats;
};

struct rb_msgstore_cursor {
    struct rb_msgstore *store;
    struct rb_msgstore_cursor *next;
    struct rb_slice *filters;
    uint32_t filter_count;
};

/* ---- memory that a test never runs out of ---- */

static void *must(void *ptr)
{
    rb_assert(ptr != NULL);
    return ptr;
}

static void *copy_of(const void *ptr, size_t len)
{
    uint8_t *copy = must(malloc(len + 1));
    if (len > 0) {
        memcpy(copy, ptr, len);
    }
    copy[len] = 0;
    return copy;
}

static size_t content_len(const struct message *message)
{
    return (size_t)message->subject_len + message->payload_len;
}

static struct rb_slice subject_of(const struct message *message)
{
    return rb_slice_of(message->content, message->subject_len);
}

static void image_add(struct image *image, const struct message *message)
{
    if (image->count == image->cap) {
        image->cap = image->cap == 0 ? 16 : 2 * image->cap;
        image->messages = must(realloc(image->messages, image->cap * sizeof(*image->messages)));
    }
    image->messages[image->count++] = *message;
}

static struct image image_copy(const struct image *from)
{
    struct image copy = *from;
    copy.messages = NULL;
    copy.count = copy.cap = 0;
    copy.blob = copy_of(from->blob, from->blob_len);
    for (size_t i = 0; i < from->count; i++) {
        struct message message = from->messages[i];
        message.content = copy_of(message.content, content_len(&message));
        image_add(&copy, &message);
    }
    return copy;
}

static void image_free(struct image *image)
{
    for (size_t i = 0; i < image->count; i++) {
        free(image->messages[i].content);
    }
    free(image->messages);
    free(image->blob);
    *image = (struct image){ 0 };
}

/* ---- the shelf ---- */

static struct shelf *shelf_find(struct rb_disk *disk, const char *directory)
{
    for (struct shelf *shelf = shelves; shelf != NULL; shelf = shelf->next) {
        if (shelf->disk == disk && strcmp(shelf->directory, directory) == 0) {
            return shelf;
        }
    }
    struct shelf *shelf = must(calloc(1, sizeof(*shelf)));
    shelf->disk = disk;
    shelf->directory = copy_of(directory, strlen(directory));
    shelf->next = shelves;
    shelves = shelf;
    return shelf;
}

static void shelf_free(struct shelf *shelf)
{
    struct shelf **at = &shelves;
    while (*at != shelf) {
        at = &(*at)->next;
    }
    *at = shelf->next;
    for (uint32_t i = 0; i < shelf->image_count; i++) {
        image_free(&shelf->images[i]);
    }
    free(shelf->directory);
    free(shelf);
}

static void shelf_put(struct shelf *shelf, struct image *image)
{
    if (shelf->image_count == 2) {
        image_free(&shelf->images[0]);
        shelf->images[0] = shelf->images[1];
        shelf->image_count = 1;
    }
    shelf->images[shelf->image_count++] = *image;
    *image = (struct image){ 0 };
}

void rb_msgstore_model_wipe(void)
{
    while (shelves != NULL) {
        rb_assert(!shelves->open);
        shelf_free(shelves);
    }
}

/* ---- homes and events ---- */

enum rb_err rb_msgstore_home_create(const struct rb_msgstore_home_options *options,
                                    struct rb_msgstore_home **ret_home)
{
    struct rb_msgstore_home *home = must(calloc(1, sizeof(*home)));
    home->options = *options;
    *ret_home = home;
    return RB_OK;
}

/** Frees the store; what is on the shelf stays there. */
static void store_free(struct rb_msgstore *store)
{
    struct rb_msgstore **at = &store->home->stores;
    while (*at != store) {
        at = &(*at)->next;
    }
    *at = store->next;
    for (size_t i = 0; i < store->load_count; i++) {
        store->loads[i].wait->waiting = false;
        store->loads[i].wait->store = NULL;
    }
    for (struct rb_msgstore_cursor *cursor = store->cursors; cursor != NULL;
         cursor = cursor->next) {
        cursor->store = NULL; /* after a crash */
    }
    rb_budget_give(store->home->options.budget, store->now.bytes);
    image_free(&store->now);
    image_free(&store->taken);
    free(store->restored);
    free(store->loads);
    if (store->shelf != NULL) {
        store->shelf->open = false;
    }
    free(store);
}

void rb_msgstore_home_destroy(struct rb_msgstore_home *home)
{
    rb_assert(home->stores == NULL && home->queue_count == 0);
    free(home->queue);
    free(home);
}

void rb_msgstore_model_crash(struct rb_msgstore_home *home)
{
    while (home->stores != NULL) {
        store_free(home->stores);
    }
    home->queue_count = 0;
    rb_msgstore_home_destroy(home);
}

void rb_msgstore_home_complete(struct rb_msgstore_home *home, struct rb_disk_op *op)
{
    (void)home;
    (void)op;
    rb_unreachable("the model starts no operation of a disk");
}

static struct rb_msgstore_event *queue_event(struct rb_msgstore *store,
                                             enum rb_msgstore_event_kind kind)
{
    struct rb_msgstore_home *home = store->home;
    if (home->queue_count == home->queue_cap) {
        home->queue_cap = home->queue_cap == 0 ? 16 : 2 * home->queue_cap;
        home->queue = must(realloc(home->queue, home->queue_cap * sizeof(*home->queue)));
    }
    struct rb_msgstore_event *event = &home->queue[home->queue_count++];
    *event = (struct rb_msgstore_event){ .kind = kind, .store = store, .owner = store->owner };
    return event;
}

/** The checkpoint in flight ends. */
static void end_checkpoint(struct rb_msgstore *store)
{
    enum rb_err err = store->checkpoint_err;
    uint64_t index = store->taken.index;
    store->checkpointing = false;
    if (err == RB_OK) {
        shelf_put(store->shelf, &store->taken);
        store->home->stats.checkpoints++;
    } else {
        image_free(&store->taken);
        store->home->stats.write_errors++;
    }
    struct rb_msgstore_event *event = queue_event(store, RB_MSGSTORE_CHECKPOINTED);
    event->err = err;
    event->index = index;
}

static struct message *message_at(const struct rb_msgstore *store, uint64_t seq)
{
    for (size_t low = 0, high = store->now.count; low < high;) {
        size_t middle = low + (high - low) / 2;
        struct message *message = &store->now.messages[middle];
        if (message->seq == seq) {
            return message;
        }
        if (message->seq < seq) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}

/** As many LOADED as there is room for. */
static uint32_t give_loads(struct rb_msgstore_home *home, uint32_t count)
{
    for (struct rb_msgstore *store = home->stores; store != NULL; store = store->next) {
        size_t given = 0;
        while (given < store->load_count && count < RB_MSGSTORE_EVENTS_MAX) {
            struct load *load = &store->loads[given++];
            struct message *message = message_at(store, load->seq);
            if (message != NULL) {
                message->warm = true;
            }
            load->wait->waiting = false;
            load->wait->store = NULL;
            home->stats.loads++;
            home->given[count++] = (struct rb_msgstore_event){ .kind = RB_MSGSTORE_LOADED,
                                                               .store = store,
                                                               .owner = store->owner,
                                                               .wait = load->wait };
        }
        store->load_count -= given;
        if (store->load_count > 0) {
            memmove(store->loads, store->loads + given, store->load_count * sizeof(*store->loads));
        }
    }
    return count;
}

uint32_t rb_msgstore_home_poll(struct rb_msgstore_home *home, struct rb_msgstore_event **ret_events)
{
    if (!home->hold_checkpoints) {
        for (struct rb_msgstore *store = home->stores; store != NULL; store = store->next) {
            if (store->checkpointing && !store->closing) {
                end_checkpoint(store);
            }
        }
    }
    uint32_t count = 0;
    while (count < home->queue_count && count < RB_MSGSTORE_EVENTS_MAX) {
        home->given[count] = home->queue[count];
        if (home->given[count].kind == RB_MSGSTORE_CLOSED) {
            store_free(home->given[count].store); /* the event's pointer is a name now */
        }
        count++;
    }
    home->queue_count -= count;
    if (home->queue_count > 0) {
        memmove(home->queue, home->queue + count, home->queue_count * sizeof(*home->queue));
    }
    if (!home->hold_loads) {
        count = give_loads(home, count);
    }
    *ret_events = home->given;
    return count;
}

uint64_t rb_msgstore_home_due(const struct rb_msgstore_home *home)
{
    return UINT64_MAX;
}

void rb_msgstore_home_flush(struct rb_msgstore_home *home)
{
    (void)home; /* nothing waits for a disk here */
}

bool rb_msgstore_home_pressure(const struct rb_msgstore_home *home)
{
    return home->pressure;
}

void rb_msgstore_home_stats(const struct rb_msgstore_home *home,
                            struct rb_msgstore_home_stats *ret_stats)
{
    *ret_stats = home->stats;
    for (const struct rb_msgstore *store = home->stores; store != NULL; store = store->next) {
        ret_stats->index_bytes += store->now.count * sizeof(struct message);
        if (store->shelf != NULL) {
            ret_stats->disk_bytes += store->now.bytes;
        }
    }
}

/* ---- what tests do ---- */

void rb_msgstore_model_set_cold(struct rb_msgstore *store, bool cold)
{
    store->cold = cold;
    for (size_t i = 0; i < store->now.count; i++) {
        store->now.messages[i].warm = false;
    }
}

void rb_msgstore_model_hold_loads(struct rb_msgstore_home *home, bool hold)
{
    home->hold_loads = hold;
}

void rb_msgstore_model_hold_checkpoints(struct rb_msgstore_home *home, bool hold)
{
    home->hold_checkpoints = hold;
}

void rb_msgstore_model_fail_checkpoints(struct rb_msgstore_home *home, enum rb_err err)
{
    home->fail_checkpoints = err;
}

void rb_msgstore_model_fail_opens(struct rb_msgstore_home *home, enum rb_err err)
{
    home->fail_opens = err;
}

bool rb_msgstore_model_damage(struct rb_msgstore *store, uint64_t seq)
{
    struct message *message = message_at(store, seq);
    if (message != NULL) {
        message->damaged = true;
    }
    return message != NULL;
}

void rb_msgstore_model_set_pressure(struct rb_msgstore_home *home, bool pressure)
{
    home->pressure = pressure;
}

/* ---- stores ---- */

enum rb_err rb_msgstore_open(struct rb_msgstore_home *home,
                             const struct rb_msgstore_options *options,
                             struct rb_msgstore **ret_store)
{
    struct shelf *shelf = NULL;
    if (options->directory != NULL) {
        if (home->options.disk == NULL || options->directory[0] == 0) {
            return RB_ERR_INVALID;
        }
        shelf = shelf_find(home->options.disk, options->directory);
        if (shelf->open) {
            return RB_ERR_INVALID;
        }
        shelf->open = true;
    }
    struct rb_msgstore *store = must(calloc(1, sizeof(*store)));
    store->home = home;
    store->owner = options->owner;
    store->removed = options->removed;
    store->subjects = options->subjects;
    store->shelf = shelf;
    store->now.first_seq = 1;
    if (shelf != NULL && shelf->image_count > 0) {
        store->now = image_copy(&shelf->images[shelf->image_count - 1]);
        store->restored = store->now.blob;
        store->restored_len = store->now.blob_len;
        store->now.blob = NULL;
        store->now.blob_len = 0;
        store->restored_index = store->checkpoint_index = store->now.index;
    }
    if (!rb_budget_take(home->options.budget, store->now.bytes)) {
        image_free(&store->now);
        free(store->restored);
        free(store);
        shelf->open = false; /* a memory store begins with no bytes */
        return RB_ERR_MEMORY;
    }
    struct rb_msgstore **end = &home->stores;
    while (*end != NULL) {
        end = &(*end)->next;
    }
    *end = store;
    queue_event(store, RB_MSGSTORE_OPENED)->err = home->fail_opens;
    *ret_store = store;
    return RB_OK;
}

void rb_msgstore_want_subjects(struct rb_msgstore *store, bool subjects)
{
    store->subjects = subjects;
}

void rb_msgstore_close(struct rb_msgstore *store)
{
    rb_assert(!store->closing && store->cursors == NULL);
    struct rb_msgstore_home *home = store->home;
    size_t kept = 0;
    for (size_t i = 0; i < home->queue_count; i++) {
        if (home->queue[i].store != store) {
            home->queue[kept++] = home->queue[i];
        }
    }
    home->queue_count = kept;
    for (size_t i = 0; i < store->load_count; i++) {
        store->loads[i].wait->waiting = false;
        store->loads[i].wait->store = NULL;
    }
    store->load_count = 0;
    store->closing = true;
    if (store->shelf != NULL) {
        store->shelf->open = false;
        store->shelf = NULL;
    }
    queue_event(store, RB_MSGSTORE_CLOSED);
}

void rb_msgstore_destroy(struct rb_msgstore *store)
{
    struct shelf *shelf = store->shelf;
    rb_msgstore_close(store);
    if (shelf != NULL) {
        shelf_free(shelf);
    }
}

uint64_t rb_msgstore_restored(const struct rb_msgstore *store, struct rb_slice *ret_blob)
{
    *ret_blob = rb_slice_of(store->restored, store->restored_len);
    return store->restored_index;
}

enum rb_err rb_msgstore_checkpoint(struct rb_msgstore *store, uint64_t index, struct rb_slice blob)
{
    if (store->shelf == NULL) {
        return RB_ERR_INVALID;
    }
    if (store->checkpointing) {
        return RB_ERR_BUSY;
    }
    rb_assert(index >= store->checkpoint_index);
    free(store->restored); /* borrowed until here; `blob` may have been it */
    store->restored = copy_of(blob.ptr, blob.len);
    store->restored_len = blob.len;
    store->taken = image_copy(&store->now);
    free(store->taken.blob);
    store->taken.blob = copy_of(store->restored, blob.len);
    store->taken.blob_len = blob.len;
    store->taken.index = index;
    store->checkpoint_index = index;
    store->checkpoint_err = store->home->fail_checkpoints;
    store->checkpointing = true;
    return RB_OK;
}

uint64_t rb_msgstore_durable_index(const struct rb_msgstore *store)
{
    return store->shelf == NULL || store->shelf->image_count < 2 ? 0
                                                                 : store->shelf->images[0].index;
}

uint64_t rb_msgstore_checkpoint_bytes(const struct rb_msgstore *store)
{
    return store->shelf == NULL ? 0 : store->now.count * sizeof(struct message);
}

/* ---- one message ---- */

enum rb_err rb_msgstore_append(struct rb_msgstore *store, const struct rb_message *message)
{
    rb_assert(message->seq > store->now.last_seq && message->header_len <= message->payload.len);
    rb_assert(message->subject.len > 0 && message->subject.len <= RB_MSGSTORE_SUBJECT_MAX);
    rb_assert(message->subject.len + message->payload.len <= RB_MSGSTORE_BYTES_MAX);
    uint64_t bytes = message->subject.len + message->payload.len +
                     (store->shelf == NULL ? 16 : 30 + (message->header_len > 0 ? 4 : 0));
    if (!rb_budget_take(store->home->options.budget, bytes)) {
        return RB_ERR_MEMORY;
    }
    struct message kept = { .seq = message->seq,
                            .time_ns = message->time_ns,
                            .bytes = bytes,
                            .subject_len = (uint32_t)message->subject.len,
                            .payload_len = (uint32_t)message->payload.len,
                            .header_len = message->header_len };
    kept.content = must(malloc(content_len(&kept)));
    memcpy(kept.content, message->subject.ptr, message->subject.len);
    if (message->payload.len > 0) {
        memcpy(kept.content + kept.subject_len, message->payload.ptr, message->payload.len);
    }
    image_add(&store->now, &kept);
    store->now.last_seq = message->seq;
    store->now.first_seq = store->now.messages[0].seq;
    store->now.last_ns = message->time_ns;
    store->now.bytes += bytes;
    return RB_OK;
}

void rb_msgstore_skip(struct rb_msgstore *store, uint64_t seq)
{
    if (seq > store->now.last_seq) {
        store->now.last_seq = seq;
        store->now.first_seq = store->now.count == 0 ? seq + 1 : store->now.first_seq;
    }
}

void rb_msgstore_skip_at(struct rb_msgstore *store, uint64_t seq, uint64_t time_ns)
{
    if (seq > store->now.last_seq) {
        rb_msgstore_skip(store, seq);
        store->now.last_ns = time_ns > store->now.last_ns ? time_ns : store->now.last_ns;
    }
}

/** The message at place `i` goes; first_seq is the caller's to set. */
static void remove_at(struct rb_msgstore *store, size_t i)
{
    struct message gone = store->now.messages[i];
    if (store->removed != NULL) {
        store->removed(store->owner, gone.seq, gone.bytes,
                       store->subjects ? subject_of(&gone) : (struct rb_slice){ 0 });
    }
    store->now.count--;
    memmove(&store->now.messages[i], &store->now.messages[i + 1],
            (store->now.count - i) * sizeof(gone));
    store->now.bytes -= gone.bytes;
    rb_budget_give(store->home->options.budget, gone.bytes);
    free(gone.content);
}

static void set_first(struct rb_msgstore *store)
{
    store->now.first_seq =
        store->now.count == 0 ? store->now.last_seq + 1 : store->now.messages[0].seq;
}

bool rb_msgstore_remove(struct rb_msgstore *store, uint64_t seq, bool erase)
{
    struct message *message = message_at(store, seq);
    if (message == NULL) {
        return false;
    }
    if (erase) {
        memset(message->content + message->subject_len, 0, message->payload_len);
    }
    remove_at(store, (size_t)(message - store->now.messages));
    set_first(store);
    return true;
}

static void begin_load(struct rb_msgstore *store, uint64_t seq, struct rb_msgstore_wait *wait)
{
    if (store->load_count == store->load_cap) {
        store->load_cap = store->load_cap == 0 ? 16 : 2 * store->load_cap;
        store->loads = must(realloc(store->loads, store->load_cap * sizeof(*store->loads)));
    }
    wait->waiting = true;
    wait->store = store;
    store->loads[store->load_count++] = (struct load){ wait, seq };
}

enum rb_err rb_msgstore_get(struct rb_msgstore *store, uint64_t seq, struct rb_msgstore_wait *wait,
                            struct rb_message *ret_message)
{
    struct message *message = message_at(store, seq);
    if (message == NULL) {
        return RB_ERR_MISSING;
    }
    if (store->cold && !message->warm) {
        if (wait != NULL && !wait->waiting) {
            begin_load(store, seq, wait);
        }
        return RB_ERR_BUSY;
    }
    message->warm = false;
    if (message->damaged) {
        if (!message->damage_named) {
            message->damage_named = true;
            snprintf(store->home->text, sizeof(store->home->text), "model: sequence %llu",
                     (unsigned long long)seq);
            queue_event(store, RB_MSGSTORE_DAMAGED)->text = store->home->text;
        }
        return RB_ERR_CORRUPT;
    }
    *ret_message =
        (struct rb_message){ .seq = seq,
                             .time_ns = message->time_ns,
                             .subject = subject_of(message),
                             .payload = rb_slice_of(message->content + message->subject_len,
                                                    message->payload_len),
                             .header_len = message->header_len };
    return RB_OK;
}

void rb_msgstore_forget(struct rb_msgstore_wait *wait)
{
    struct rb_msgstore *store = wait->store;
    if (!wait->waiting || store == NULL) {
        return;
    }
    size_t kept = 0;
    for (size_t i = 0; i < store->load_count; i++) {
        if (store->loads[i].wait != wait) {
            store->loads[kept++] = store->loads[i];
        }
    }
    store->load_count = kept;
    wait->waiting = false;
    wait->store = NULL;
}

bool rb_msgstore_find(const struct rb_msgstore *store, uint64_t seq,
                      struct rb_msgstore_entry *ret_entry)
{
    const struct message *message = message_at(store, seq);
    if (message != NULL) {
        *ret_entry = (struct rb_msgstore_entry){ message->time_ns, message->bytes };
    }
    return message != NULL;
}

struct rb_slice rb_msgstore_subject_of(const struct rb_msgstore *store, uint64_t seq, uint8_t *out)
{
    const struct message *message = message_at(store, seq);
    if (message == NULL) {
        return (struct rb_slice){ 0 };
    }
    memcpy(out, message->content, message->subject_len);
    return rb_slice_of(out, message->subject_len);
}

/* ---- all messages ---- */

/** Place of the first message with this subject. */
static size_t first_place(const struct rb_msgstore *store, struct rb_slice subject)
{
    size_t i = 0;
    while (i < store->now.count && !rb_slice_equal(subject_of(&store->now.messages[i]), subject)) {
        i++;
    }
    return i;
}

void rb_msgstore_state(const struct rb_msgstore *store, struct rb_msgstore_state *ret_state)
{
    const struct image *now = &store->now;
    *ret_state = (struct rb_msgstore_state){
        .messages = now->count,
        .bytes = now->bytes,
        .first_seq = now->first_seq,
        .last_seq = now->last_seq,
        .first_ns = now->count == 0 ? 0 : now->messages[0].time_ns,
        .last_ns = now->last_ns,
        .subjects = rb_msgstore_subject_count(store, (struct rb_slice){ 0 }),
        .deleted = now->last_seq + 1 - now->first_seq - now->count,
    };
}

uint64_t rb_msgstore_next(const struct rb_msgstore *store, uint64_t seq)
{
    return rb_msgstore_first(store, NULL, 0, seq);
}

uint64_t rb_msgstore_next_gap(const struct rb_msgstore *store, uint64_t seq)
{
    for (seq = seq == 0 ? 1 : seq; seq <= store->now.last_seq; seq++) {
        if (message_at(store, seq) == NULL) {
            return seq;
        }
    }
    return 0;
}

uint64_t rb_msgstore_at_time(const struct rb_msgstore *store, uint64_t time_ns)
{
    for (size_t i = 0; i < store->now.count; i++) {
        if (store->now.messages[i].time_ns >= time_ns) {
            return store->now.messages[i].seq;
        }
    }
    return 0;
}

uint64_t rb_msgstore_purge_below(struct rb_msgstore *store, uint64_t seq)
{
    uint64_t removed = 0;
    while (store->now.count > 0 && store->now.messages[0].seq < seq) {
        remove_at(store, 0);
        removed++;
    }
    if (seq > store->now.last_seq + 1) {
        store->now.last_seq = seq - 1;
    }
    set_first(store);
    return removed;
}

/* ---- by subject ---- */

static bool matches(struct rb_slice filter, struct rb_slice subject)
{
    return filter.len == 0 || rb_slice_equal(filter, RB_S(">")) ||
           rb_subject_match(filter, subject);
}

static bool matches_any(const struct rb_slice *filters, uint32_t filter_count,
                        struct rb_slice subject)
{
    for (uint32_t i = 0; i < filter_count; i++) {
        if (matches(filters[i], subject)) {
            return true;
        }
    }
    return filter_count == 0;
}

bool rb_msgstore_subject(const struct rb_msgstore *store, struct rb_slice subject,
                         struct rb_msgstore_subject *ret_subject)
{
    struct rb_msgstore_subject found = { 0 };
    for (size_t i = first_place(store, subject); i < store->now.count; i++) {
        const struct message *message = &store->now.messages[i];
        if (rb_slice_equal(subject_of(message), subject)) {
            found.subject = subject_of(message);
            found.first_seq = found.count == 0 ? message->seq : found.first_seq;
            found.last_seq = message->seq;
            found.count++;
        }
    }
    if (found.count > 0) {
        *ret_subject = found;
    }
    return found.count > 0;
}

static int compare(struct rb_slice a, struct rb_slice b)
{
    size_t len = a.len < b.len ? a.len : b.len;
    int order = len == 0 ? 0 : memcmp(a.ptr, b.ptr, len);
    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

bool rb_msgstore_next_subject(const struct rb_msgstore *store, struct rb_slice filter,
                              struct rb_msgstore_subjects *at,
                              struct rb_msgstore_subject *ret_subject)
{
    struct rb_slice last = rb_slice_of(at->last, at->last_len), best = { 0 };
    for (size_t i = 0; i < store->now.count; i++) {
        struct rb_slice subject = subject_of(&store->now.messages[i]);
        if ((!at->begun || compare(subject, last) > 0) &&
            (best.len == 0 || compare(subject, best) < 0) && matches(filter, subject)) {
            best = subject;
        }
    }
    if (best.len == 0) {
        return false;
    }
    memcpy(at->last, best.ptr, best.len);
    at->last_len = (uint32_t)best.len;
    at->begun = true;
    return rb_msgstore_subject(store, best, ret_subject);
}

uint64_t rb_msgstore_count(const struct rb_msgstore *store, const struct rb_slice *filters,
                           uint32_t filter_count, uint64_t from)
{
    uint64_t count = 0;
    for (size_t i = 0; i < store->now.count; i++) {
        const struct message *message = &store->now.messages[i];
        count += message->seq >= from && matches_any(filters, filter_count, subject_of(message));
    }
    return count;
}

uint64_t rb_msgstore_subject_count(const struct rb_msgstore *store, struct rb_slice filter)
{
    uint64_t count = 0;
    for (size_t i = 0; i < store->now.count; i++) {
        struct rb_slice subject = subject_of(&store->now.messages[i]);
        count += matches(filter, subject) && first_place(store, subject) == i;
    }
    return count;
}

uint64_t rb_msgstore_last(const struct rb_msgstore *store, const struct rb_slice *filters,
                          uint32_t filter_count, uint64_t up_to)
{
    for (size_t i = store->now.count; i-- > 0;) {
        const struct message *message = &store->now.messages[i];
        if (message->seq <= up_to && matches_any(filters, filter_count, subject_of(message))) {
            return message->seq;
        }
    }
    return 0;
}

uint64_t rb_msgstore_first(const struct rb_msgstore *store, const struct rb_slice *filters,
                           uint32_t filter_count, uint64_t from)
{
    for (size_t i = 0; i < store->now.count; i++) {
        const struct message *message = &store->now.messages[i];
        if (message->seq >= from && matches_any(filters, filter_count, subject_of(message))) {
            return message->seq;
        }
    }
    return 0;
}

uint64_t rb_msgstore_purge(struct rb_msgstore *store, struct rb_slice filter, uint64_t below,
                           uint64_t keep)
{
    uint64_t matching = 0, removed = 0;
    for (size_t i = 0; i < store->now.count; i++) {
        const struct message *message = &store->now.messages[i];
        matching += (below == 0 || message->seq < below) && matches(filter, subject_of(message));
    }
    for (size_t i = 0; i < store->now.count && matching > keep;) {
        const struct message *message = &store->now.messages[i];
        if ((below == 0 || message->seq < below) && matches(filter, subject_of(message))) {
            remove_at(store, i);
            matching--;
            removed++;
        } else {
            i++;
        }
    }
    set_first(store);
    return removed;
}

enum rb_err rb_msgstore_cursor_create(struct rb_msgstore *store, const struct rb_slice *filters,
                                      uint32_t filter_count, struct rb_msgstore_cursor **ret_cursor)
{
    struct rb_msgstore_cursor *cursor = must(calloc(1, sizeof(*cursor)));
    cursor->store = store;
    cursor->filter_count = filter_count;
    cursor->filters = must(calloc(filter_count + 1, sizeof(*cursor->filters)));
    for (uint32_t i = 0; i < filter_count; i++) {
        cursor->filters[i] = rb_slice_of(copy_of(filters[i].ptr, filters[i].len), filters[i].len);
    }
    cursor->next = store->cursors;
    store->cursors = cursor;
    *ret_cursor = cursor;
    return RB_OK;
}

void rb_msgstore_cursor_destroy(struct rb_msgstore_cursor *cursor)
{
    if (cursor == NULL) {
        return;
    }
    for (uint32_t i = 0; i < cursor->filter_count; i++) {
        free((void *)(uintptr_t)cursor->filters[i].ptr);
    }
    free(cursor->filters);
    if (cursor->store != NULL) {
        struct rb_msgstore_cursor **at = &cursor->store->cursors;
        while (*at != cursor) {
            at = &(*at)->next;
        }
        *at = cursor->next;
    }
    free(cursor);
}

uint64_t rb_msgstore_cursor_next(struct rb_msgstore_cursor *cursor, uint64_t from)
{
    return rb_msgstore_first(cursor->store, cursor->filters, cursor->filter_count, from);
}

void rb_msgstore_cursor_hint(struct rb_msgstore_cursor *cursor, uint64_t seq)
{
    rb_assert(message_at(cursor->store, seq) != NULL);
    rb_assert(rb_msgstore_first(cursor->store, cursor->filters, cursor->filter_count, seq) == seq);
}
