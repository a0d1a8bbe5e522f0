/* consumer_state.c - bytes of a consumer: texts of DELIVERED and ACKED, its part of a checkpoint.
 *
 * Numbers are varints: 7 bits per byte, lowest first; signed ones zigzag. A *record* is a list of runs:
 *   signed  first sequence - (last sequence of the run before + 1), 0 before the first
 *   number  length << 2 | op
 *   number  deliveries so far, for ops AGAIN and SPENT
 *
 * DELIVERED  u8 1, u8 kind
 *   kind 0   number: consumer sequence of the first; number: time, ns; record of ONE (new) and AGAIN
 *   kind 1   the place only: numbers consumer sequence, stream sequence, time
 * ACKED      u8 1, number: time; record of ONE, ALL (everything up to it), SPENT
 * command.value is id << 32 | epoch (consumer_inside.h, 3).
 *
 * Checkpoint u32 bytes that follow; u8 1; u8 length, name; u32 id, epoch; u64 created; u32 length, configuration as JSON;
 *   numbers: delivered (consumer, stream, time), floor (the same), next, replay_until;
 *   unacked: count, then for each: seq - previous, consumer seq (signed difference), time (signed difference), deliveries
 *   spent:   count, then for each: seq - previous, deliveries
 *   starts:  count of those left, then for each: seq - previous
 */
#include <inttypes.h>
#include <string.h>

#include "js/consumer_inside.h"
#include "ringbus/check.h"

#define VERSION 1
#define VARINT_MAX 10
#define RECORD_FIRST 64
#define RECORD_KEPT 4096
#define KIND_RUNS 0
#define KIND_PLACE 1

static uint8_t *put_varint(uint8_t *at, uint64_t value)
{
    while (value >= 0x80) {
        *at++ = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    *at++ = (uint8_t)value;
    return at;
}

static uint64_t zigzag(uint64_t difference)
{
    return difference << 1 ^ (uint64_t)((int64_t)difference >> 63);
}

static uint64_t unzigzag(uint64_t value)
{
    return value >> 1 ^ (0 - (value & 1));
}

static uint64_t get_varint(struct rb_reader *reader)
{
    uint64_t value = 0;
    for (uint32_t shift = 0; shift < 64; shift += 7) {
        uint8_t byte = rb_read_u8(reader);
        if (shift == 63 && byte > 1) {
            break;
        }
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            return value;
        }
    }
    reader->ok = false;
    return 0;
}

/* Records */

void rb_js_record_init(struct rb_js_record *record)
{
    *record = (struct rb_js_record){ 0 };
}

void rb_js_record_deinit(struct rb_js_record *record, struct rb_budget *budget)
{
    rb_free(budget, record->bytes, record->cap);
    rb_js_record_init(record);
}

void rb_js_record_clear(struct rb_js_record *record, struct rb_budget *budget)
{
    if (record->cap > RECORD_KEPT) {
        rb_js_record_deinit(record, budget);
        return;
    }
    record->len = 0;
    record->previous = record->run_seq = record->run_len = 0;
}

static bool record_room(struct rb_js_record *record, struct rb_budget *budget, uint32_t bytes)
{
    if (record->cap - record->len >= bytes) {
        return true;
    }
    uint32_t cap = record->cap == 0 ? RECORD_FIRST : record->cap * 2;
    uint8_t *grown = rb_realloc(budget, record->bytes, record->cap, cap);
    if (grown == NULL) {
        return false;
    }
    record->bytes = grown;
    record->cap = cap;
    return true;
}

static bool has_count(enum rb_js_record_op op)
{
    return op == RB_JS_RECORD_SPENT || op == RB_JS_RECORD_AGAIN;
}

bool rb_js_record_end(struct rb_js_record *record, struct rb_budget *budget)
{
    if (record->run_len == 0) {
        return true;
    }
    if (!record_room(record, budget, 3 * VARINT_MAX)) {
        return false;
    }
    uint8_t *at = record->bytes + record->len;
    at = put_varint(at, zigzag(record->run_seq - (record->previous + 1)));
    at = put_varint(at, record->run_len << 2 | record->run_op);
    if (has_count(record->run_op)) {
        at = put_varint(at, record->run_count);
    }
    record->len = (uint32_t)(at - record->bytes);
    record->previous = record->run_seq + record->run_len - 1;
    record->run_len = 0;
    return true;
}

bool rb_js_record_add(struct rb_js_record *record, struct rb_budget *budget,
                      enum rb_js_record_op op, uint64_t seq, uint64_t count)
{
    if (record->run_len > 0 && record->run_op == op && op != RB_JS_RECORD_ALL &&
        record->run_seq + record->run_len == seq &&
        (!has_count(op) || record->run_count == count)) {
        record->run_len++;
        return true;
    }
    if (op == RB_JS_RECORD_ALL && record->run_len > 0 && record->run_op == op) {
        record->run_seq = seq > record->run_seq ? seq : record->run_seq;
        return true; /* the later one says it all */
    }
    if (!rb_js_record_end(record, budget)) {
        return false;
    }
    if (record->len > UINT32_MAX / 4) {
        return false;
    }
    record->run_op = (uint8_t)op;
    record->run_seq = seq;
    record->run_len = 1;
    record->run_count = count;
    return true;
}

void rb_js_record_read(struct rb_js_record_reader *at, struct rb_slice text)
{
    *at = (struct rb_js_record_reader){ .reader = rb_reader_over(text), .ok = true };
}

bool rb_js_record_next(struct rb_js_record_reader *at, struct rb_js_record_run *ret_run)
{
    if (!at->ok || at->reader.at == at->reader.end) {
        return false;
    }
    struct rb_js_record_run run = { 0 };
    run.seq = at->previous + 1 + unzigzag(get_varint(&at->reader));
    uint64_t head = get_varint(&at->reader);
    run.op = (enum rb_js_record_op)(head & 3);
    run.len = head >> 2;
    run.count = has_count(run.op) ? get_varint(&at->reader) : 1;
    if (!rb_reader_ok(&at->reader) || run.seq == 0 || run.len == 0 ||
        run.len > UINT64_MAX - run.seq || run.count == 0 || run.count > UINT32_MAX) {
        at->ok = false;
        return false;
    }
    at->previous = run.seq + run.len - 1;
    *ret_run = run;
    return true;
}

/* DELIVERED */

struct rb_command rb_js_consumer_command(const struct rb_js_consumer *consumer, uint8_t type)
{
    struct rb_js *js = rb_js_consumer_js(consumer);
    return (struct rb_command){ .type = type,
                                .name = consumer->name,
                                .time_ns = js->wall_ns,
                                .value = (uint64_t)consumer->id << 32 | consumer->inside->epoch };
}

bool rb_js_consumer_note_delivery(struct rb_js_consumer *consumer, uint64_t seq, uint64_t count)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    struct rb_budget *budget = rb_js_consumer_js(consumer)->budget;
    if (rb_js_record_empty(&in->deliveries)) {
        in->deliveries_first = consumer->delivered.consumer_seq;
        in->deliveries_ns = rb_js_consumer_js(consumer)->wall_ns;
    }
    return rb_js_record_add(&in->deliveries, budget,
                            count > 1 ? RB_JS_RECORD_AGAIN : RB_JS_RECORD_ONE, seq, count);
}

/* Head, numbers and body become one text; `kind` is of DELIVERED only. */
static enum rb_err propose(struct rb_js_consumer *consumer, uint8_t type, uint8_t kind,
                           const uint64_t *numbers, uint32_t number_count, struct rb_slice body,
                           struct rb_js_waiter *waiter)
{
    struct rb_budget *budget = rb_js_consumer_js(consumer)->budget;
    uint8_t small[512];
    size_t cap = 2 + number_count * VARINT_MAX + body.len;
    uint8_t *text = cap <= sizeof(small) ? small : rb_alloc(budget, cap);
    if (text == NULL) {
        return RB_ERR_MEMORY;
    }
    uint8_t *at = text;
    *at++ = VERSION;
    if (type == RB_COMMAND_DELIVERED) {
        *at++ = kind;
    }
    for (uint32_t i = 0; i < number_count; i++) {
        at = put_varint(at, numbers[i]);
    }
    if (body.len > 0) {
        memcpy(at, body.ptr, body.len);
        at += body.len;
    }
    struct rb_command command = rb_js_consumer_command(consumer, type);
    command.text = rb_slice_of(text, (size_t)(at - text));
    enum rb_err err = rb_js_stream_propose(consumer->stream, &command, waiter);
    if (text != small) {
        rb_free(budget, text, cap);
    }
    return err;
}

bool rb_js_consumer_log_deliveries(struct rb_js_consumer *consumer)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    struct rb_budget *budget = rb_js_consumer_js(consumer)->budget;
    if (rb_js_record_empty(&in->deliveries)) {
        return true;
    }
    if (!rb_js_record_end(&in->deliveries, budget)) {
        return false;
    }
    uint64_t numbers[] = { in->deliveries_first, in->deliveries_ns };
    enum rb_err err = propose(consumer, RB_COMMAND_DELIVERED, KIND_RUNS, numbers, 2,
                              rb_slice_of(in->deliveries.bytes, in->deliveries.len), NULL);
    if (err == RB_ERR_FULL || err == RB_ERR_SPACE || err == RB_ERR_MEMORY) {
        return false;
    }
    rb_js_record_clear(&in->deliveries,
                       budget); /* also when the log stopped: nothing is logged any more */
    return true;
}

bool rb_js_consumer_log_place(struct rb_js_consumer *consumer)
{
    uint64_t numbers[] = { consumer->delivered.consumer_seq, consumer->delivered.stream_seq,
                           (uint64_t)consumer->delivered.last_ns };
    enum rb_err err =
        propose(consumer, RB_COMMAND_DELIVERED, KIND_PLACE, numbers, 3, RB_S(""), NULL);
    return err != RB_ERR_FULL && err != RB_ERR_SPACE && err != RB_ERR_MEMORY;
}

enum rb_err rb_js_consumer_log_acks(struct rb_js_consumer *consumer, struct rb_js_record *record,
                                    struct rb_js_waiter *waiter)
{
    uint64_t time_ns = rb_js_consumer_js(consumer)->wall_ns;
    if (!rb_js_record_end(record, rb_js_consumer_js(consumer)->budget)) {
        return RB_ERR_MEMORY;
    }
    return propose(consumer, RB_COMMAND_ACKED, 0, &time_ns, 1,
                   rb_slice_of(record->bytes, record->len), waiter);
}

static bool is_current(const struct rb_js_consumer *consumer, const struct rb_command *command)
{
    return command->value == ((uint64_t)consumer->id << 32 | consumer->inside->epoch);
}

/* Sequences up to `seq` have their turn behind them. */
static void pass(struct rb_js_consumer *consumer, uint64_t seq)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    while (in->start_at < in->start_count && in->starts[in->start_at] <= seq) {
        in->start_at++;
    }
    in->next_seq = seq >= in->next_seq ? seq + 1 : in->next_seq;
}

static void add_pending(struct rb_js_consumer *consumer, uint64_t seq, uint64_t consumer_seq,
                        uint64_t time_ns)
{
    struct rb_js_pending *acks = &consumer->inside->acks;
    struct rb_msgstore_entry there;
    bool above = acks->begin == acks->end || acks->entries[acks->end - 1].seq < seq;
    if (!above || !rb_msgstore_find(consumer->stream->store, seq, &there)) {
        return;
    }
    if (!rb_js_pending_reserve(acks)) {
        rb_js_consumer_give_up(consumer); /* it would never be delivered again */
        return;
    }
    (void)rb_js_pending_add(acks, seq, consumer_seq, time_ns, 1);
}

/* A crash took deliveries from the end of the log, but not from the checkpoint that was ahead of it, and now the log is applied to an
 * older checkpoint: consumer sequences are missing, or what was never delivered is acked. What lies between was delivered, so it
 * is waited for. */
void rb_js_consumer_adopt(struct rb_js_consumer *consumer, uint64_t below, uint64_t time_ns)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    for (;;) {
        uint64_t between = in->start_at < in->start_count
                               ? in->starts[in->start_at]
                               : rb_msgstore_cursor_next(in->cursor, in->next_seq);
        if (between == 0 || between >= below) {
            return;
        }
        add_pending(consumer, between, consumer->delivered.consumer_seq + 1, time_ns);
        pass(consumer, between);
        consumer->delivered.stream_seq = between;
    }
}

static void apply_new(struct rb_js_consumer *consumer, uint64_t seq, uint64_t consumer_seq,
                      uint64_t time_ns)
{
    bool acks = consumer->config->ack_policy != RB_JS_ACK_NONE;
    if (acks && consumer_seq > consumer->delivered.consumer_seq + 1) {
        rb_js_consumer_adopt(consumer, seq, time_ns);
    }
    consumer->delivered = (struct rb_js_consumer_place){ consumer_seq, seq, (int64_t)time_ns };
    pass(consumer, seq);
    if (acks) {
        add_pending(consumer, seq, consumer_seq, time_ns);
    } else {
        consumer->ack_floor = consumer->delivered;
    }
}

static void apply_again(struct rb_js_consumer *consumer, uint64_t seq, uint64_t consumer_seq,
                        uint64_t time_ns, uint32_t count)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    if (seq > consumer->delivered.stream_seq) {
        rb_js_consumer_adopt(consumer, seq + 1, time_ns);
    }
    consumer->delivered.consumer_seq = consumer_seq;
    consumer->delivered.last_ns = (int64_t)time_ns;
    struct rb_js_pending_entry *entry = rb_js_pending_find(&in->acks, seq);
    if (entry != NULL) {
        rb_js_pending_redelivered(&in->acks, entry, count);
        rb_js_pending_touch(&in->acks, entry, consumer->config, time_ns);
    }
}

static void apply_runs(struct rb_js_consumer *consumer, struct rb_reader *reader)
{
    struct rb_js_stream *stream = consumer->stream;
    uint64_t consumer_seq = get_varint(reader), time_ns = get_varint(reader);
    bool releases =
        consumer->config->ack_policy == RB_JS_ACK_NONE && stream->config->retention != RB_JS_LIMITS;
    struct rb_js_record_reader at;
    struct rb_js_record_run run;
    rb_js_record_read(&at, rb_slice_of(reader->at, (size_t)(reader->end - reader->at)));
    while (rb_js_record_next(&at, &run)) {
        if (!releases && consumer_seq + run.len - 1 <= consumer->delivered.consumer_seq) {
            consumer_seq += run.len; /* counted when it was sent */
            continue;
        }
        for (uint64_t i = 0; i < run.len; i++, consumer_seq++) {
            if (consumer_seq > consumer->delivered.consumer_seq) {
                if (run.op == RB_JS_RECORD_ONE) {
                    apply_new(consumer, run.seq + i, consumer_seq, time_ns);
                } else {
                    apply_again(consumer, run.seq + i, consumer_seq, time_ns, (uint32_t)run.count);
                }
            }
            if (releases) {
                rb_js_stream_acked(stream, consumer, run.seq + i);
            }
        }
    }
}

void rb_js_consumer_apply_delivered(struct rb_js_consumer *consumer,
                                    const struct rb_command *command)
{
    struct rb_reader reader = rb_reader_over(command->text);
    uint8_t version = rb_read_u8(&reader), kind = rb_read_u8(&reader);
    if (!is_current(consumer, command) || version != VERSION) {
        return;
    }
    if (kind == KIND_RUNS) {
        apply_runs(consumer, &reader);
        return;
    }
    struct rb_js_consumer_place place;
    place.consumer_seq = get_varint(&reader);
    place.stream_seq = get_varint(&reader);
    place.last_ns = (int64_t)get_varint(&reader);
    if (rb_reader_ok(&reader) && place.consumer_seq > consumer->delivered.consumer_seq) {
        consumer->delivered = place;
        consumer->ack_floor = place;
        pass(consumer, place.stream_seq);
    }
}

void rb_js_consumer_apply_acked(struct rb_js_consumer *consumer, const struct rb_command *command)
{
    struct rb_reader reader = rb_reader_over(command->text);
    if (rb_read_u8(&reader) != VERSION || !is_current(consumer, command)) {
        return;
    }
    uint64_t time_ns = get_varint(&reader);
    struct rb_js_record_reader at;
    struct rb_js_record_run run;
    rb_js_record_read(&at, rb_slice_of(reader.at, (size_t)(reader.end - reader.at)));
    while (rb_js_record_next(&at, &run)) {
        rb_js_consumer_settle(consumer, &run, time_ns);
    }
}

/* Checkpoint */

static void put_number(struct rb_out *out, uint64_t value)
{
    uint8_t bytes[VARINT_MAX];
    uint8_t *end = put_varint(bytes, value);
    rb_out_put(out, rb_slice_of(bytes, (size_t)(end - bytes)));
}

static void put_fixed(struct rb_out *out, uint64_t value, uint32_t bytes)
{
    uint8_t text[8];
    for (uint32_t i = 0; i < bytes; i++) {
        text[i] = (uint8_t)(value >> 8 * i);
    }
    rb_out_put(out, rb_slice_of(text, bytes));
}

static void put_place(struct rb_out *out, const struct rb_js_consumer_place *place)
{
    put_number(out, place->consumer_seq);
    put_number(out, place->stream_seq);
    put_number(out, (uint64_t)place->last_ns);
}

static void put_pending(struct rb_out *out, const struct rb_js_pending *acks)
{
    uint64_t seq = 0, consumer_seq = 0, time_ns = 0;
    put_number(out, acks->live);
    for (const struct rb_js_pending_entry *entry = rb_js_pending_first(acks); entry != NULL;
         entry = rb_js_pending_after(acks, entry)) {
        put_number(out, entry->seq - seq);
        put_number(out, zigzag(entry->consumer_seq - consumer_seq));
        put_number(out, zigzag(entry->time_ns - time_ns));
        put_number(out, entry->count);
        seq = entry->seq;
        consumer_seq = entry->consumer_seq;
        time_ns = entry->time_ns;
    }
    seq = 0;
    put_number(out, acks->spent_len);
    for (uint32_t i = 0; i < acks->spent_len; i++) {
        put_number(out, acks->spent[i].seq - seq);
        put_number(out, acks->spent[i].count);
        seq = acks->spent[i].seq;
    }
}

void rb_js_consumer_save(const struct rb_js_consumer *consumer, struct rb_out *out)
{
    const struct rb_js_consumer_inside *in = consumer->inside;
    size_t begin = out->len;
    put_fixed(out, 0, 4);
    put_fixed(out, VERSION, 1);
    put_fixed(out, consumer->name.len, 1);
    rb_out_put(out, consumer->name);
    put_fixed(out, consumer->id, 4);
    put_fixed(out, in->epoch, 4);
    put_fixed(out, consumer->created_ns, 8);
    size_t config_at = out->len;
    put_fixed(out, 0, 4);
    rb_doc_write(out, &rb_js_consumer_config_type, consumer->config);
    size_t config_end = out->len;
    put_place(out, &consumer->delivered);
    put_place(out, &consumer->ack_floor);
    put_number(out, in->next_seq);
    put_number(out, in->replay_until);
    put_pending(out, &in->acks);
    uint64_t seq = 0;
    put_number(out, in->start_count - in->start_at);
    for (uint32_t i = in->start_at; i < in->start_count; i++) {
        put_number(out, in->starts[i] - seq);
        seq = in->starts[i];
    }
    if (out->failed) {
        return;
    }
    struct rb_writer writer = rb_writer_over(out->bytes + begin, 4);
    rb_write_u32(&writer, (uint32_t)(out->len - begin - 4));
    writer = rb_writer_over(out->bytes + config_at, 4);
    rb_write_u32(&writer, (uint32_t)(config_end - config_at - 4));
}

static struct rb_js_consumer_place get_place(struct rb_reader *reader)
{
    struct rb_js_consumer_place place;
    place.consumer_seq = get_varint(reader);
    place.stream_seq = get_varint(reader);
    place.last_ns = (int64_t)get_varint(reader);
    return place;
}

/* A list cannot have more items than bytes are left. */
static uint64_t get_count(struct rb_reader *reader)
{
    uint64_t count = get_varint(reader);
    if (count > (uint64_t)(reader->end - reader->at)) {
        reader->ok = false;
    }
    return reader->ok ? count : 0;
}

static enum rb_err get_pending(struct rb_reader *reader, struct rb_js_pending *acks)
{
    uint64_t seq = 0, consumer_seq = 0, time_ns = 0, count = get_count(reader);
    for (uint64_t i = 0; i < count; i++) {
        uint64_t step = get_varint(reader);
        seq += step;
        consumer_seq += unzigzag(get_varint(reader));
        time_ns += unzigzag(get_varint(reader));
        uint64_t deliveries = get_varint(reader);
        if (!rb_reader_ok(reader) || step == 0 || step > seq || deliveries == 0 ||
            deliveries > UINT32_MAX) {
            return RB_ERR_CORRUPT;
        }
        if (!rb_js_pending_reserve(acks)) {
            return RB_ERR_MEMORY;
        }
        (void)rb_js_pending_add(acks, seq, consumer_seq, time_ns, (uint32_t)deliveries);
    }
    seq = 0;
    count = get_count(reader);
    for (uint64_t i = 0; i < count; i++) {
        uint64_t step = get_varint(reader), deliveries = get_varint(reader);
        seq += step;
        if (!rb_reader_ok(reader) || step == 0 || step > seq || deliveries > UINT32_MAX) {
            return RB_ERR_CORRUPT;
        }
        if (!rb_js_pending_spend(acks, seq, (uint32_t)deliveries)) {
            return RB_ERR_MEMORY;
        }
    }
    rb_js_pending_reorder(acks);
    return RB_OK;
}

static enum rb_err get_starts(struct rb_reader *reader, struct rb_js_consumer *consumer)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    uint64_t seq = 0, count = get_count(reader);
    if (count == 0 || count > UINT32_MAX) {
        return rb_reader_ok(reader) && count == 0 ? RB_OK : RB_ERR_CORRUPT;
    }
    in->starts = rb_alloc(rb_js_consumer_js(consumer)->budget, count * sizeof(*in->starts));
    if (in->starts == NULL) {
        return RB_ERR_MEMORY;
    }
    in->start_count = in->start_cap = (uint32_t)count;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t step = get_varint(reader);
        seq += step;
        if (step == 0 || step > seq) {
            return RB_ERR_CORRUPT;
        }
        in->starts[i] = seq;
    }
    return rb_reader_ok(reader) ? RB_OK : RB_ERR_CORRUPT;
}

static enum rb_err get_state(struct rb_reader *reader, struct rb_js_consumer *consumer)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    consumer->delivered = get_place(reader);
    consumer->ack_floor = get_place(reader);
    in->next_seq = get_varint(reader);
    in->replay_until = get_varint(reader);
    enum rb_err err = get_pending(reader, &in->acks);
    if (err == RB_OK) {
        err = get_starts(reader, consumer);
    }
    if (err == RB_OK && (!rb_reader_ok(reader) || reader->at != reader->end)) {
        return RB_ERR_CORRUPT;
    }
    return err;
}

bool rb_js_consumer_take_state(struct rb_js_consumer *consumer, struct rb_slice state)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    struct rb_reader reader = rb_reader_over(state);
    rb_free(rb_js_consumer_js(consumer)->budget, in->starts, in->start_cap * sizeof(*in->starts));
    in->starts = NULL;
    in->start_at = in->start_count = in->start_cap = 0;
    enum rb_err err = get_state(&reader, consumer);
    if (err == RB_ERR_MEMORY) {
        rb_js_consumer_give_up(consumer);
    }
    return err == RB_OK;
}

void rb_js_consumer_put_state(struct rb_out *out, const struct rb_js_consumer_place *delivered,
                              const struct rb_js_consumer_place *floor,
                              const struct rb_js_unacked *items, uint32_t count)
{
    struct rb_js_unacked before = { 0 };
    put_place(out, delivered);
    put_place(out, floor);
    put_number(out, delivered->stream_seq + 1);
    put_number(out, 0);
    put_number(out, count);
    for (uint32_t i = 0; i < count; i++) {
        put_number(out, items[i].seq - before.seq);
        put_number(out, zigzag(items[i].consumer_seq - before.consumer_seq));
        put_number(out, zigzag(items[i].time_ns - before.time_ns));
        put_number(out, items[i].count);
        before = items[i];
    }
    put_number(out, 0);
    put_number(out, 0);
}

static void write_place(struct rb_out *out, const char *name,
                        const struct rb_js_consumer_place *place)
{
    rb_out_printf(out, "\"%s\":{\"consumer_seq\":%" PRIu64 ",\"stream_seq\":%" PRIu64 "}", name,
                  place->consumer_seq, place->stream_seq);
}

void rb_js_consumer_write_state(struct rb_out *out, const struct rb_js_consumer *consumer)
{
    const struct rb_js_pending *acks = &consumer->inside->acks;
    const char *before = ",\"pending\":{";
    rb_out_put(out, RB_S("{"));
    write_place(out, "delivered", &consumer->delivered);
    rb_out_put(out, RB_S(","));
    write_place(out, "ack_floor", &consumer->ack_floor);
    for (const struct rb_js_pending_entry *entry = rb_js_pending_first(acks); entry != NULL;
         entry = rb_js_pending_after(acks, entry)) {
        rb_out_printf(out, "%s\"%" PRIu64 "\":{\"Sequence\":%" PRIu64 ",\"Timestamp\":%" PRIu64 "}",
                      before, entry->seq, entry->consumer_seq, entry->time_ns);
        before = ",";
    }
    rb_out_put(out, before[1] == '\0' ? RB_S("}") : RB_S(""));
    before = ",\"redelivered\":{";
    for (const struct rb_js_pending_entry *entry = rb_js_pending_first(acks); entry != NULL;
         entry = rb_js_pending_after(acks, entry)) {
        if (entry->count > 1) {
            rb_out_printf(out, "%s\"%" PRIu64 "\":%u", before, entry->seq, entry->count - 1);
            before = ",";
        }
    }
    rb_out_put(out, before[1] == '\0' ? RB_S("}}") : RB_S("}"));
}

enum rb_err rb_js_consumer_load(struct rb_js_stream *stream, struct rb_reader *reader)
{
    struct rb_reader inner = rb_reader_over(rb_read_slice(reader, rb_read_u32(reader)));
    uint8_t version = rb_read_u8(&inner);
    struct rb_slice name = rb_read_slice(&inner, rb_read_u8(&inner));
    uint32_t id = rb_read_u32(&inner), epoch = rb_read_u32(&inner);
    uint64_t created_ns = rb_read_u64(&inner);
    struct rb_slice json = rb_read_slice(&inner, rb_read_u32(&inner));
    if (!rb_reader_ok(reader) || !rb_reader_ok(&inner) || version != VERSION || name.len == 0 ||
        rb_js_consumer_find(stream, name) != NULL) {
        return RB_ERR_CORRUPT;
    }
    struct rb_arena *arena;
    if (rb_arena_create(1024, &arena) != RB_OK) {
        return RB_ERR_MEMORY;
    }
    struct rb_js_consumer_config *config = rb_arena_take(arena, sizeof(*config));
    char error[RB_DOC_ERROR_MAX];
    if (config == NULL ||
        !rb_doc_read(arena, &rb_js_consumer_config_type, json, true, config, error)) {
        rb_arena_destroy(arena);
        return config == NULL ? RB_ERR_MEMORY : RB_ERR_CORRUPT;
    }
    struct rb_js_consumer *consumer = rb_js_consumer_make(stream, name, arena, config);
    if (consumer == NULL) {
        rb_arena_destroy(arena);
        return RB_ERR_MEMORY;
    }
    consumer->id = id;
    consumer->created_ns = created_ns;
    consumer->inside->epoch = epoch;
    consumer->inside->restored = true;
    if (id > stream->next_consumer_id) {
        stream->next_consumer_id = id;
    }
    enum rb_err err = get_state(&inner, consumer);
    if (err != RB_OK) {
        rb_js_consumer_free(consumer);
    }
    return err;
}
