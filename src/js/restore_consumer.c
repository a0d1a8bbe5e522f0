/* restore_consumer.c - a consumer as an archive has it: its configuration, and where it was in the stream.
 *
 *   {"config":{...},"state":{"delivered":{...},"ack_floor":{...},"pending":{"12":{"Sequence":8,"Timestamp":ns}},"redelivered":{"12":1}}}
 *
 * What is waited for and is no message of the archive is not waited for any more.
 */
#include <stdlib.h>
#include <string.h>

#include "js/consumer.h"
#include "js/doc.h"
#include "js/transfer.h"

#define SEQ_MAX (UINT64_MAX / 2)

struct place {
    uint64_t consumer_seq, stream_seq;
};
static const struct rb_doc_field place_fields[] = {
    { "consumer_seq", RB_DOC_U64, 0, offsetof(struct place, consumer_seq) },
    { "stream_seq", RB_DOC_U64, 0, offsetof(struct place, stream_seq) },
};
static const struct rb_doc_type place_type = { "SequencePair", sizeof(struct place), place_fields,
                                               2 };
struct state {
    struct place delivered, ack_floor;
    struct rb_slice pending, redelivered; /* as they are; empty: none */
};
static const struct rb_doc_field state_fields[] = {
    { "delivered", RB_DOC_INLINE, 0, offsetof(struct state, delivered), NULL, &place_type },
    { "ack_floor", RB_DOC_INLINE, 0, offsetof(struct state, ack_floor), NULL, &place_type },
    { "pending", RB_DOC_RAW, 0, offsetof(struct state, pending) },
    { "redelivered", RB_DOC_RAW, 0, offsetof(struct state, redelivered) },
};
static const struct rb_doc_type state_type = { "ConsumerState", sizeof(struct state), state_fields,
                                               4 };
struct entry {
    struct rb_js_consumer_config config;
    struct state state;
};
static const struct rb_doc_field entry_fields[] = {
    { "config", RB_DOC_INLINE, 0, offsetof(struct entry, config), NULL,
      &rb_js_consumer_config_type },
    { "state", RB_DOC_INLINE, 0, offsetof(struct entry, state), NULL, &state_type },
};
static const struct rb_doc_type entry_type = { "ConsumerEntry", sizeof(struct entry), entry_fields,
                                               2 };
struct pending {
    uint64_t sequence;
    int64_t timestamp;
};
static const struct rb_doc_field pending_fields[] = {
    { "Sequence", RB_DOC_U64, 0, offsetof(struct pending, sequence) },
    { "Timestamp", RB_DOC_I64, 0, offsetof(struct pending, timestamp) },
};
static const struct rb_doc_type pending_type = { "Pending", sizeof(struct pending), pending_fields,
                                                 2 };

struct unacked {
    struct rb_arena *arena;
    struct rb_js_unacked *items;
    uint32_t count, cap;
};

static void skip_blanks(struct rb_slice *at)
{
    while (at->len > 0 && strchr(" \t\r\n", at->ptr[0]) != NULL) {
        *at = rb_slice_of(at->ptr + 1, at->len - 1);
    }
}

static bool take_byte(struct rb_slice *at, char byte)
{
    skip_blanks(at);
    if (at->len == 0 || at->ptr[0] != byte) {
        return false;
    }
    *at = rb_slice_of(at->ptr + 1, at->len - 1);
    return true;
}

/* The next `"number": value` of an object whose text is valid JSON; values are numbers or flat objects. False: the end, or
 * something else (then at->len > 0). */
static bool next_member(struct rb_slice *at, uint64_t *ret_key, struct rb_slice *ret_value)
{
    struct rb_slice text = *at;
    (void)take_byte(&text, ',');
    const uint8_t *quote;
    if (!take_byte(&text, '"') || (quote = memchr(text.ptr, '"', text.len)) == NULL) {
        return false;
    }
    struct rb_slice key = rb_slice_of(text.ptr, (size_t)(quote - text.ptr));
    text = rb_slice_of(quote + 1, text.len - key.len - 1);
    if (!rb_slice_decimal(key, 19, ret_key) || !take_byte(&text, ':')) {
        return false;
    }
    skip_blanks(&text);
    bool object = text.len > 0 && text.ptr[0] == '{';
    size_t len = 0;
    while (len < text.len &&
           (object ? text.ptr[len] != '}' : text.ptr[len] >= '0' && text.ptr[len] <= '9')) {
        len++;
    }
    len += object && len < text.len;
    *ret_value = rb_slice_of(text.ptr, len);
    *at = rb_slice_of(text.ptr + len, text.len - len);
    return len > 0;
}

/* Of an object's text, or of null; false: it is neither. */
static bool open_object(struct rb_slice *at)
{
    if (at->len == 0 || rb_slice_equal(*at, RB_S("null"))) {
        *at = rb_slice_of(NULL, 0);
        return true;
    }
    return take_byte(at, '{');
}

static bool at_end(struct rb_slice at)
{
    return at.len == 0 || (take_byte(&at, '}') && at.len == 0);
}

static bool add(struct unacked *unacked, const struct rb_js_unacked *item)
{
    if (unacked->count == unacked->cap) {
        uint32_t cap = unacked->cap == 0 ? 64 : 2 * unacked->cap;
        struct rb_js_unacked *grown = rb_arena_take(unacked->arena, cap * sizeof(*grown));
        if (grown == NULL) {
            return false;
        }
        if (unacked->count > 0) {
            memcpy(grown, unacked->items, unacked->count * sizeof(*grown));
        }
        unacked->items = grown;
        unacked->cap = cap;
    }
    unacked->items[unacked->count++] = *item;
    return true;
}

static int compare(const void *a, const void *b)
{
    uint64_t left = ((const struct rb_js_unacked *)a)->seq;
    uint64_t right = ((const struct rb_js_unacked *)b)->seq;
    return (left > right) - (left < right);
}

static bool read_pending(const struct rb_msgstore *store, const struct state *state,
                         struct unacked *unacked)
{
    struct rb_slice at = state->pending, value;
    struct rb_msgstore_entry there;
    uint64_t seq;
    if (!open_object(&at)) {
        return false;
    }
    while (next_member(&at, &seq, &value)) {
        struct pending pending;
        char why[RB_DOC_ERROR_MAX];
        if (!rb_doc_read(unacked->arena, &pending_type, value, false, &pending, why) ||
            seq > state->delivered.stream_seq || pending.sequence > state->delivered.consumer_seq ||
            pending.timestamp < 0) {
            return false;
        }
        const struct rb_js_unacked item = { seq, pending.sequence, (uint64_t)pending.timestamp, 1 };
        if (rb_msgstore_find(store, seq, &there) && !add(unacked, &item)) {
            return false;
        }
    }
    if (unacked->count > 1) {
        qsort(unacked->items, unacked->count, sizeof(*unacked->items), compare);
    }
    for (uint32_t i = 1; i < unacked->count; i++) {
        if (unacked->items[i].seq == unacked->items[i - 1].seq) {
            return false;
        }
    }
    return at_end(at);
}

static bool read_redelivered(struct rb_slice at, const struct unacked *unacked)
{
    struct rb_slice value;
    struct rb_js_unacked wanted = { 0 };
    if (!open_object(&at)) {
        return false;
    }
    while (next_member(&at, &wanted.seq, &value)) {
        uint64_t times;
        if (!rb_slice_decimal(value, 9, &times)) {
            return false;
        }
        struct rb_js_unacked *item =
            unacked->count == 0
                ? NULL
                : bsearch(&wanted, unacked->items, unacked->count, sizeof(wanted), compare);
        if (item != NULL) {
            item->count = (uint32_t)times + 1;
        }
    }
    return at_end(at);
}

const char *rb_js_archived_consumer(const struct rb_msgstore *store, struct rb_arena *arena,
                                    struct rb_slice payload,
                                    struct rb_js_consumer_config *ret_config, struct rb_out *state)
{
    struct entry entry;
    struct unacked unacked = { .arena = arena };
    char why[RB_DOC_ERROR_MAX];
    if (!rb_doc_read(arena, &entry_type, payload, false, &entry, why)) {
        return "consumer of the archive can not be read";
    }
    const struct place *delivered = &entry.state.delivered, *floor = &entry.state.ack_floor;
    bool waits = entry.config.ack_policy != RB_JS_ACK_NONE;
    if (delivered->stream_seq > SEQ_MAX || delivered->consumer_seq > SEQ_MAX ||
        floor->stream_seq > delivered->stream_seq ||
        floor->consumer_seq > delivered->consumer_seq ||
        (waits && (!read_pending(store, &entry.state, &unacked) ||
                   !read_redelivered(entry.state.redelivered, &unacked)))) {
        return "state of a consumer of the archive can not be read";
    }
    *ret_config = entry.config;
    rb_js_consumer_put_state(
        state, &(struct rb_js_consumer_place){ delivered->consumer_seq, delivered->stream_seq, 0 },
        &(struct rb_js_consumer_place){ floor->consumer_seq, floor->stream_seq, 0 }, unacked.items,
        unacked.count);
    return state->failed ? "not enough memory" : NULL;
}
