/* schedule.c - see schedule.h. */
#include "js/schedule.h"

#include <string.h>

#include "js/api.h"
#include "js/cron.h"
#include "js/publish.h"
#include "js/saved.h"
#include "proto/gotime.h"
#include "proto/header.h"
#include "proto/subject.h"
#include "ringbus/check.h"

#define SECOND_NS UINT64_C(1000000000)
#define RETRY_NS (SECOND_NS / 4)
#define ZONE_HEADER RB_S("Nats-Schedule-Time-Zone")

struct rb_js_schedule {
    struct rb_js_alarm alarm;
    struct rb_msgstore_wait wait;
    struct rb_js_stream *stream;
    uint64_t seq;
    uint64_t base_ns; /* when its message was stored */
    uint64_t next_ns; /* told by the message it produced last; 0: it did not produce any */
    bool in_flight;
    uint32_t subject_len, pattern_len, zone_len;
    uint8_t text[]; /* subject, pattern, zone */
};

static struct rb_slice subject_of(const struct rb_js_schedule *schedule)
{
    return rb_slice_of(schedule->text, schedule->subject_len);
}

static struct rb_slice pattern_of(const struct rb_js_schedule *schedule)
{
    return rb_slice_of(schedule->text + schedule->subject_len, schedule->pattern_len);
}

static struct rb_slice zone_of(const struct rb_js_schedule *schedule)
{
    return rb_slice_of(schedule->text + schedule->subject_len + schedule->pattern_len,
                       schedule->zone_len);
}

static bool schedule_equal(const void *item, struct rb_slice key)
{
    return rb_slice_equal(subject_of(item), key);
}

static uint64_t schedule_hash(const void *item)
{
    return rb_slice_hash(subject_of(item));
}

static struct rb_js_schedule *find(const struct rb_js_stream *stream, struct rb_slice subject)
{
    return rb_map_find(&stream->inside->schedules.map, rb_slice_hash(subject), subject);
}

static void free_schedule(struct rb_js_schedule *schedule)
{
    struct rb_js *js = schedule->stream->account->js;
    rb_wheel_disarm(&js->wheel, &schedule->alarm.timer);
    rb_msgstore_forget(&schedule->wait);
    rb_js_pools_give(&js->pools, schedule,
                     sizeof(*schedule) + schedule->subject_len + schedule->pattern_len +
                         schedule->zone_len);
}

static void drop(struct rb_js_schedule *schedule)
{
    (void)rb_map_remove(&schedule->stream->inside->schedules.map, schedule_hash(schedule),
                        schedule);
    free_schedule(schedule);
}

void rb_js_schedules_init(struct rb_js_stream *stream)
{
    rb_map_init(&stream->inside->schedules.map, stream->account->js->budget, 0, schedule_equal,
                schedule_hash);
}

void rb_js_schedules_deinit(struct rb_js_stream *stream)
{
    struct rb_map *map = &stream->inside->schedules.map;
    struct rb_js_schedule *schedule;
    for (uint32_t at = 0; (schedule = rb_map_next(map, &at)) != NULL;) {
        free_schedule(schedule);
    }
    rb_map_deinit(map);
}

/* ---- when ---- */

static uint64_t due_ns(const struct rb_js_schedule *schedule)
{
    struct rb_cron cron;
    struct rb_zones *zones = &schedule->stream->account->js->zones;
    if (schedule->next_ns != 0) {
        return schedule->next_ns;
    }
    if (!rb_cron_parse(pattern_of(schedule), &cron)) {
        return UINT64_MAX;
    }
    return rb_cron_next(&cron, rb_zone_find(zones, zone_of(schedule)), schedule->base_ns);
}

static void arm(struct rb_js_schedule *schedule, uint64_t least_ns)
{
    struct rb_js *js = schedule->stream->account->js;
    uint64_t due = due_ns(schedule);
    if (!schedule->stream->inside->schedules.open || due == UINT64_MAX) {
        return;
    }
    uint64_t wait_ns = due > js->wall_ns ? due - js->wall_ns : 0;
    wait_ns = wait_ns < least_ns ? least_ns : wait_ns;
    rb_wheel_arm(&js->wheel, &schedule->alarm.timer, js->now_ns + wait_ns);
}

void rb_js_schedules_open(struct rb_js_stream *stream)
{
    struct rb_js_schedules *schedules = &stream->inside->schedules;
    struct rb_js_schedule *schedule;
    schedules->open = true;
    for (uint32_t at = 0; (schedule = rb_map_next(&schedules->map, &at)) != NULL;) {
        schedule->in_flight = false;
        arm(schedule, 0);
    }
}

void rb_js_schedules_stop(struct rb_js_stream *stream)
{
    struct rb_js_schedules *schedules = &stream->inside->schedules;
    struct rb_js_schedule *schedule;
    schedules->open = false;
    for (uint32_t at = 0; (schedule = rb_map_next(&schedules->map, &at)) != NULL;) {
        rb_wheel_disarm(&stream->account->js->wheel, &schedule->alarm.timer);
        rb_msgstore_forget(&schedule->wait);
    }
}

/* ---- what is known ---- */

/* False: memory refused. */
static bool put(struct rb_js_stream *stream, struct rb_slice subject, struct rb_slice pattern,
                struct rb_slice zone, uint64_t seq, uint64_t base_ns, uint64_t next_ns)
{
    struct rb_js *js = stream->account->js;
    size_t text_len = subject.len + pattern.len + zone.len;
    struct rb_js_schedule *schedule = rb_js_pools_take(&js->pools, sizeof(*schedule) + text_len);
    if (schedule == NULL) {
        return false;
    }
    *schedule = (struct rb_js_schedule){ .stream = stream,
                                         .seq = seq,
                                         .base_ns = base_ns,
                                         .next_ns = next_ns,
                                         .subject_len = (uint32_t)subject.len,
                                         .pattern_len = (uint32_t)pattern.len,
                                         .zone_len = (uint32_t)zone.len };
    struct rb_writer out = rb_writer_over(schedule->text, text_len);
    rb_write_slice(&out, subject);
    rb_write_slice(&out, pattern);
    rb_write_slice(&out, zone);
    rb_timer_init(&schedule->alarm.timer, RB_JS_TIMER_SCHEDULE);
    schedule->alarm.owner = schedule;
    schedule->wait.owner = schedule;
    schedule->wait.tag = RB_JS_WAIT_SCHEDULE;
    struct rb_js_schedule *old = find(stream, subject_of(schedule));
    if (old != NULL) {
        drop(old);
    }
    if (rb_map_insert(&stream->inside->schedules.map, schedule_hash(schedule), schedule) != RB_OK) {
        free_schedule(schedule);
        return false;
    }
    arm(schedule, 0);
    return true;
}

/* ---- rules ---- */

static bool refuse(struct rb_js_outcome *outcome, uint16_t code)
{
    rb_js_error_set(&outcome->error, code, NULL);
    return false;
}

static bool captures(const struct rb_js_stream *stream, struct rb_slice subject)
{
    const struct rb_doc_strings *subjects = &stream->config->subjects;
    for (uint32_t i = 0; i < subjects->count; i++) {
        if (rb_subject_match(subjects->items[i], subject)) {
            return true;
        }
    }
    return false;
}

static bool is_literal(struct rb_slice subject)
{
    return subject.len <= RB_MSGSTORE_SUBJECT_MAX && rb_subject_valid(subject) &&
           !rb_subject_has_wildcard(subject);
}

uint8_t rb_js_schedule_flags(struct rb_js_stream *stream, struct rb_slice block)
{
    if (!stream->config->allow_msg_schedules) {
        return 0;
    }
    struct rb_slice zone = rb_header_get(block, ZONE_HEADER);
    return zone.len == 0 || rb_zone_find(&stream->account->js->zones, zone) != NULL
               ? 0
               : RB_COMMAND_NO_ZONE;
}

static bool check_pattern(const struct rb_command *command, const struct rb_js_headers *headers,
                          struct rb_js_outcome *outcome)
{
    struct rb_cron cron;
    struct rb_slice zone =
        rb_header_get(rb_slice_of(command->text.ptr, command->header_len), ZONE_HEADER);
    if (!rb_cron_parse(headers->value[RB_JS_H_SCHEDULE], &cron) ||
        (zone.ptr != NULL && cron.kind != RB_CRON_FIELDS)) {
        return refuse(outcome, 10189);
    }
    bool known = zone.ptr == NULL || (zone.len > 0 && (command->flags & RB_COMMAND_NO_ZONE) == 0);
    return known || refuse(outcome, 10223);
}

static bool check_options(struct rb_js_stream *stream, const struct rb_js_headers *headers,
                          struct rb_js_outcome *outcome)
{
    int64_t ttl;
    if (rb_js_headers_has(headers, RB_JS_H_SCHEDULE_TTL)) {
        if (!rb_js_ttl_parse(headers->value[RB_JS_H_SCHEDULE_TTL], &ttl)) {
            return refuse(outcome, 10191);
        }
        if (!stream->config->allow_msg_ttl) {
            return refuse(outcome, 10166);
        }
    }
    return !rb_js_headers_has(headers, RB_JS_H_SCHEDULE_ROLLUP) ||
           rb_slice_equal(headers->value[RB_JS_H_SCHEDULE_ROLLUP], RB_S("sub")) ||
           refuse(outcome, 10192);
}

static bool check_subjects(struct rb_js_stream *stream, struct rb_slice subject,
                           const struct rb_js_headers *headers, struct rb_js_outcome *outcome)
{
    struct rb_slice target = headers->value[RB_JS_H_SCHEDULE_TARGET];
    struct rb_slice source = headers->value[RB_JS_H_SCHEDULE_SOURCE];
    bool has_source = rb_js_headers_has(headers, RB_JS_H_SCHEDULE_SOURCE);
    if (!rb_js_headers_has(headers, RB_JS_H_SCHEDULE_TARGET) || !is_literal(target) ||
        rb_slice_equal(target, subject)) {
        return refuse(outcome, 10190);
    }
    if (has_source && (!is_literal(source) || rb_slice_equal(source, target) ||
                       rb_slice_equal(source, subject))) {
        return refuse(outcome, 10203);
    }
    if (!captures(stream, target)) {
        return refuse(outcome, 10190);
    }
    return !has_source || captures(stream, source) || refuse(outcome, 10203);
}

/* A client ends a schedule: Nats-Schedule-Next and Nats-Scheduler. */
static bool check_end(struct rb_js_stream *stream, struct rb_slice subject,
                      const struct rb_js_headers *headers, struct rb_js_outcome *outcome)
{
    struct rb_slice scheduler = headers->value[RB_JS_H_SCHEDULER];
    struct rb_msgstore_subject info;
    if (!rb_js_headers_has(headers, RB_JS_H_SCHEDULE_NEXT) ||
        !rb_slice_equal(headers->value[RB_JS_H_SCHEDULE_NEXT], RB_S("purge")) ||
        !rb_js_headers_has(headers, RB_JS_H_SCHEDULER) || !is_literal(scheduler) ||
        rb_slice_equal(scheduler, subject)) {
        return refuse(outcome, 10212);
    }
    if (!stream->config->allow_msg_schedules) {
        return refuse(outcome, 10188);
    }
    if (!rb_msgstore_subject(stream->store, scheduler, &info)) {
        return true;
    }
    const struct rb_js_schedule *schedule = find(stream, scheduler);
    return (schedule != NULL && schedule->seq == info.last_seq) || refuse(outcome, 10212);
}

bool rb_js_schedule_check(struct rb_js_stream *stream, const struct rb_command *command,
                          const struct rb_js_headers *headers, struct rb_js_outcome *outcome)
{
    bool ends = rb_js_headers_has(headers, RB_JS_H_SCHEDULE_NEXT) ||
                rb_js_headers_has(headers, RB_JS_H_SCHEDULER);
    if (rb_js_headers_has(headers, RB_JS_H_SCHEDULE)) {
        if (!stream->config->allow_msg_schedules) {
            return refuse(outcome, 10188);
        }
        if (!check_pattern(command, headers, outcome) || !check_options(stream, headers, outcome) ||
            !check_subjects(stream, command->subject, headers, outcome)) {
            return false;
        }
        if (rb_js_headers_has(headers, RB_JS_H_ROLLUP) &&
            rb_js_rollup_of(headers) != RB_JS_ROLLUP_SUBJECT) {
            return refuse(outcome, 10192);
        }
    }
    return !ends || check_end(stream, command->subject, headers, outcome);
}

/* ---- storing ---- */

bool rb_js_schedule_begin(struct rb_js_stream *stream, const struct rb_command *command,
                          const struct rb_js_headers *headers,
                          struct rb_js_scheduled *ret_scheduled, struct rb_js_outcome *outcome)
{
    struct rb_js_pools *pools = &stream->account->js->pools;
    *ret_scheduled = (struct rb_js_scheduled){ .command = *command };
    if (!rb_js_headers_has(headers, RB_JS_H_SCHEDULE) ||
        rb_js_headers_has(headers, RB_JS_H_ROLLUP)) {
        return true;
    }
    size_t cap = command->text.len + 32, body = command->text.len - command->header_len;
    uint8_t *bytes = rb_js_pools_take(pools, cap);
    if (bytes == NULL) {
        return refuse(outcome, 10023);
    }
    size_t len = rb_header_set(bytes, cap, rb_slice_of(command->text.ptr, command->header_len),
                               RB_S("Nats-Rollup"), RB_S("sub"));
    if (len == 0) { /* headers that are none: they are stored as they came */
        rb_js_pools_give(pools, bytes, cap);
        return true;
    }
    memcpy(bytes + len, command->text.ptr + command->header_len, body);
    ret_scheduled->bytes = bytes;
    ret_scheduled->cap = cap;
    ret_scheduled->command.text = rb_slice_of(bytes, len + body);
    ret_scheduled->command.header_len = (uint32_t)len;
    return true;
}

/* What a message says of the schedule it comes from, or ends. */
static void follow(struct rb_js_stream *stream, const struct rb_js_headers *headers)
{
    char error[RB_GO_TIME_ERROR_MAX];
    int64_t next_ns;
    struct rb_js_schedule *schedule = find(stream, headers->value[RB_JS_H_SCHEDULER]);
    if (schedule == NULL) {
        return;
    }
    if (rb_slice_equal(headers->value[RB_JS_H_SCHEDULE_NEXT], RB_S("purge"))) {
        uint64_t seq = schedule->seq;
        drop(schedule);
        (void)rb_msgstore_remove(stream->store, seq, false);
    } else if (rb_go_time(headers->value[RB_JS_H_SCHEDULE_NEXT], &next_ns, error) && next_ns > 0) {
        schedule->next_ns = (uint64_t)next_ns;
        schedule->in_flight = false;
        arm(schedule, 0);
    }
}

void rb_js_schedule_end(struct rb_js_stream *stream, struct rb_js_scheduled *scheduled,
                        struct rb_js_outcome *outcome)
{
    const struct rb_command *command = &scheduled->command;
    struct rb_js_headers headers;
    struct rb_slice block = rb_slice_of(command->text.ptr, command->header_len);
    rb_js_headers_scan(block, &headers);
    if (outcome->error.code == 0 && !outcome->duplicate) {
        bool kept = (command->flags & RB_COMMAND_KEEP_SEQ) != 0;
        uint64_t stored_ns = kept ? command->time_ns : stream->inside->clock_ns;
        if (rb_js_headers_has(&headers, RB_JS_H_SCHEDULE)) {
            if (!put(stream, command->subject, headers.value[RB_JS_H_SCHEDULE],
                     rb_header_get(block, ZONE_HEADER), outcome->seq, stored_ns, 0)) {
                rb_js_stream_go_offline(stream, "memory was refused for a schedule");
                (void)refuse(outcome, 10023);
            }
        } else if (!kept && rb_js_headers_has(&headers, RB_JS_H_SCHEDULER) &&
                   rb_js_headers_has(&headers, RB_JS_H_SCHEDULE_NEXT)) {
            follow(stream, &headers);
        }
    }
    if (scheduled->bytes != NULL) {
        rb_js_pools_give(&stream->account->js->pools, scheduled->bytes, scheduled->cap);
    }
}

bool rb_js_schedule_is(const struct rb_js_stream *stream, const struct rb_js_headers *headers,
                       uint64_t seq)
{
    struct rb_msgstore_entry entry;
    const struct rb_js_schedule *schedule = find(stream, headers->value[RB_JS_H_SCHEDULER]);
    return schedule != NULL && schedule->seq == seq && rb_msgstore_find(stream->store, seq, &entry);
}

/* ---- producing ---- */

static bool is_left_out(struct rb_slice line)
{
    static const struct rb_slice names[] = {
        { (const uint8_t *)"Nats-Schedule", 13 }, { (const uint8_t *)"Nats-Expected-", 14 },
        { (const uint8_t *)"Nats-Msg-Id:", 12 },  { (const uint8_t *)"Nats-TTL:", 9 },
        { (const uint8_t *)"Nats-Rollup:", 12 },
    };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (rb_slice_starts(line, names[i])) {
            return true;
        }
    }
    return false;
}

static void put_lines(struct rb_out *out, struct rb_slice block)
{
    const uint8_t *at = block.ptr, *end = block.ptr + block.len;
    rb_out_put(out, RB_S("NATS/1.0\r\n"));
    for (uint32_t n = 0; at < end; n++) {
        const uint8_t *next = memmem(at, (size_t)(end - at), "\r\n", 2);
        next = next == NULL ? end : next + 2;
        struct rb_slice line = rb_slice_of(at, (size_t)(next - at));
        at = next;
        if (n > 0 && line.len > 2 && !is_left_out(line)) {
            rb_out_put(out, line);
        }
    }
}

/* RFC 3339 in the zone. */
static void put_time(struct rb_out *out, const struct rb_zone *zone, uint64_t time_ns)
{
    int32_t offset = rb_zone_offset(zone, (int64_t)(time_ns / SECOND_NS));
    size_t begin = out->len;
    rb_out_time(out, (int64_t)time_ns + (int64_t)offset * (int64_t)SECOND_NS);
    if (out->failed) {
        return;
    }
    memmove(out->bytes + begin, out->bytes + begin + 1, out->len - begin - 2); /* the quotes */
    out->len -= 2;
    if (offset != 0) {
        uint32_t minutes = (uint32_t)(offset < 0 ? -offset : offset) / 60;
        out->len--; /* the Z */
        rb_out_printf(out, "%c%02u:%02u", offset < 0 ? '-' : '+', minutes / 60, minutes % 60);
    }
}

/* When it is due again, behind now: what was missed meanwhile is left out. 0: never. */
static uint64_t next_after(const struct rb_js_schedule *schedule, const struct rb_zone *zone)
{
    const struct rb_js *js = schedule->stream->account->js;
    struct rb_cron cron;
    if (!rb_cron_parse(pattern_of(schedule), &cron) || cron.kind == RB_CRON_AT) {
        return 0;
    }
    uint64_t next = rb_cron_next(&cron, zone, due_ns(schedule));
    if (next <= js->wall_ns) {
        next = rb_cron_next(&cron, zone, js->wall_ns);
    }
    return next == UINT64_MAX ? 0 : next;
}

static void put_message(struct rb_out *out, const struct rb_js_schedule *schedule,
                        const struct rb_js_headers *headers, const struct rb_message *base,
                        uint32_t *ret_header_len)
{
    struct rb_js *js = schedule->stream->account->js;
    const struct rb_zone *zone = rb_zone_find(&js->zones, zone_of(schedule));
    uint64_t next = next_after(schedule, zone);
    put_lines(out, rb_slice_of(base->payload.ptr, base->header_len));
    rb_out_put(out, RB_S("Nats-Scheduler: "));
    rb_out_put(out, subject_of(schedule));
    rb_out_put(out, RB_S("\r\nNats-Schedule-Next: "));
    if (next == 0) {
        rb_out_put(out, RB_S("purge"));
    } else {
        put_time(out, zone, next);
    }
    rb_out_put(out, RB_S("\r\n"));
    if (rb_js_headers_has(headers, RB_JS_H_SCHEDULE_TTL)) {
        rb_out_printf(out, "Nats-TTL: %.*s\r\n", RB_S_ARG(headers->value[RB_JS_H_SCHEDULE_TTL]));
    }
    if (rb_js_headers_has(headers, RB_JS_H_SCHEDULE_ROLLUP)) {
        rb_out_printf(out, "Nats-Rollup: %.*s\r\n",
                      RB_S_ARG(headers->value[RB_JS_H_SCHEDULE_ROLLUP]));
    }
    rb_out_put(out, RB_S("\r\n"));
    *ret_header_len = (uint32_t)out->len;
    rb_out_put(out, rb_slice_of(base->payload.ptr + base->header_len,
                                base->payload.len - base->header_len));
}

/* The schedule may be gone or another one by now: it is looked for by its subject. */
static void produced(struct rb_js_waiter *waiter, enum rb_err err, const void *outcome)
{
    struct rb_js_replier *replier = RB_CONTAINER(waiter, struct rb_js_replier, waiter);
    struct rb_js_stream *stream = replier->ctx;
    struct rb_js_schedule *schedule = find(stream, replier->reply);
    if (err == RB_OK && schedule != NULL && schedule->in_flight) {
        schedule->in_flight = false; /* it was refused */
        arm(schedule, SECOND_NS);
    }
}

static void propose(struct rb_js_schedule *schedule, const struct rb_message *own,
                    const struct rb_message *base)
{
    struct rb_js_stream *stream = schedule->stream;
    struct rb_js_headers headers;
    struct rb_out out;
    struct rb_command command = { .type = RB_COMMAND_PUBLISH, .value = schedule->seq };
    rb_js_headers_scan(rb_slice_of(own->payload.ptr, own->header_len), &headers);
    rb_out_init(&out, stream->account->js->budget);
    put_message(&out, schedule, &headers, base, &command.header_len);
    command.subject = headers.value[RB_JS_H_SCHEDULE_TARGET];
    command.text = rb_out_slice(&out);
    rb_js_stream_stamp(stream, &command);
    command.flags |= RB_COMMAND_MARKER;
    schedule->in_flight = true;
    if (out.failed || rb_js_group_propose_reply(&stream->group, &command, produced, stream,
                                                subject_of(schedule)) != RB_OK) {
        schedule->in_flight = false;
        arm(schedule, SECOND_NS);
    }
    rb_out_deinit(&out);
}

static void produce(struct rb_js_schedule *schedule)
{
    struct rb_js_stream *stream = schedule->stream;
    struct rb_message own, base;
    struct rb_js_headers headers;
    struct rb_msgstore_subject info;
    enum rb_err err = rb_msgstore_get(stream->store, schedule->seq, &schedule->wait, &own);
    if (err == RB_ERR_BUSY) {
        return; /* the wait calls again */
    }
    if (err == RB_ERR_MISSING) {
        drop(schedule);
        return;
    }
    if (err != RB_OK) {
        rb_log_err(stream->account->js->text_log,
                   "JetStream stream \"%.*s\": the schedule %llu is not carried out: %s",
                   RB_S_ARG(stream->name), (unsigned long long)schedule->seq, rb_err_text(err));
        return;
    }
    base = own;
    rb_js_headers_scan(rb_slice_of(own.payload.ptr, own.header_len), &headers);
    if (rb_js_headers_has(&headers, RB_JS_H_SCHEDULE_SOURCE) &&
        rb_msgstore_subject(stream->store, headers.value[RB_JS_H_SCHEDULE_SOURCE], &info)) {
        err = rb_msgstore_get(stream->store, info.last_seq, &schedule->wait, &base);
        if (err == RB_ERR_BUSY) {
            return;
        }
        base = err == RB_OK ? base : own;
    }
    propose(schedule, &own, &base);
}

void rb_js_schedule_timer(struct rb_js_schedule *schedule)
{
    struct rb_js_stream *stream = schedule->stream;
    struct rb_js *js = stream->account->js;
    if (!stream->inside->schedules.open || stream->phase != RB_JS_STREAM_SERVING || js->closing ||
        schedule->in_flight) {
        return;
    }
    if (due_ns(schedule) > js->wall_ns) {
        arm(schedule, 0); /* the wall clock is behind */
    } else {
        produce(schedule);
    }
}

void rb_js_schedule_loaded(struct rb_js_schedule *schedule)
{
    rb_js_schedule_timer(schedule);
}

/* ---- checkpoints ---- */

void rb_js_schedules_save(const struct rb_js_stream *stream, struct rb_out *out)
{
    const struct rb_map *map = &stream->inside->schedules.map;
    const struct rb_js_schedule *schedule;
    rb_js_put_number(out, map->count);
    for (uint32_t at = 0; (schedule = rb_map_next(map, &at)) != NULL;) {
        rb_js_put_number(out, schedule->seq);
        rb_js_put_number(out, schedule->base_ns);
        rb_js_put_number(out, schedule->next_ns);
        rb_js_put_text(out, subject_of(schedule));
        rb_js_put_text(out, pattern_of(schedule));
        rb_js_put_text(out, zone_of(schedule));
    }
}

enum rb_err rb_js_schedules_load(struct rb_js_stream *stream, struct rb_reader *reader)
{
    uint64_t count = rb_read_u64(reader);
    for (uint64_t i = 0; i < count; i++) {
        uint64_t seq = rb_read_u64(reader), base_ns = rb_read_u64(reader);
        uint64_t next_ns = rb_read_u64(reader);
        struct rb_slice subject = rb_js_get_text(reader), pattern = rb_js_get_text(reader);
        struct rb_slice zone = rb_js_get_text(reader);
        if (!rb_reader_ok(reader) || subject.len > RB_MSGSTORE_SUBJECT_MAX) {
            return RB_ERR_CORRUPT;
        }
        if (!put(stream, subject, pattern, zone, seq, base_ns, next_ns)) {
            return RB_ERR_MEMORY;
        }
    }
    return rb_reader_ok(reader) ? RB_OK : RB_ERR_CORRUPT;
}
