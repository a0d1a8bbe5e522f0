/* schedule.h - messages that are published later (reference: jetstream.md 10).
 *
 *   a message with Nats-Schedule --apply--> known, with its timer --due--> its body (or its source's) is read
 *        --> a PUBLISH of the server's own, to its target --apply--> stored; the schedule ends, or has its next time
 *
 * 1. Which schedules there are is state of the stream, kept by the commands and in the checkpoint. When one is due is decided by
 *    who proposes: the command carries the next time in its headers, so that applying it needs no zone and no clock.
 * 2. A schedule lives as long as its message. A command of one that was replaced meanwhile is refused by apply.
 */
#pragma once

#include "base/map.h"
#include "js/command.h"
#include "js/doc.h"

struct rb_js;
struct rb_js_headers;
struct rb_js_outcome;
struct rb_js_schedule;
struct rb_js_stream;

struct rb_js_schedules {
    struct rb_map map; /* struct rb_js_schedule, by subject */
    bool open;         /* timers run */
};

void rb_js_schedules_init(struct rb_js_stream *stream);
void rb_js_schedules_deinit(struct rb_js_stream *stream);
/** The stream serves: timers are armed. */
void rb_js_schedules_open(struct rb_js_stream *stream);
void rb_js_schedules_stop(struct rb_js_stream *stream);
/** RB_COMMAND_NO_ZONE when the headers name a time zone that this machine does not know, else 0. Before the proposal. */
uint8_t rb_js_schedule_flags(struct rb_js_stream *stream, struct rb_slice block);
/** The rules of the headers. */
bool rb_js_schedule_check(struct rb_js_stream *stream, const struct rb_command *command,
                          const struct rb_js_headers *headers, struct rb_js_outcome *outcome);

/** A message of a stream with schedules while it is stored. */
struct rb_js_scheduled {
    struct rb_command command; /* as it is to be stored */
    uint8_t *bytes;
    size_t cap;
};
/** False: memory refused, outcome->error is set. */
bool rb_js_schedule_begin(struct rb_js_stream *stream, const struct rb_command *command,
                          const struct rb_js_headers *headers,
                          struct rb_js_scheduled *ret_scheduled, struct rb_js_outcome *outcome);
/** It was stored, or not (outcome): schedules begin, go on and end. */
void rb_js_schedule_end(struct rb_js_stream *stream, struct rb_js_scheduled *scheduled,
                        struct rb_js_outcome *outcome);
/** Does a schedule's own message come from the schedule that is in force? */
bool rb_js_schedule_is(const struct rb_js_stream *stream, const struct rb_js_headers *headers,
                       uint64_t seq);
void rb_js_schedule_timer(struct rb_js_schedule *schedule);
void rb_js_schedule_loaded(struct rb_js_schedule *schedule);
void rb_js_schedules_save(const struct rb_js_stream *stream, struct rb_out *out);
RB_MUST_CHECK enum rb_err rb_js_schedules_load(struct rb_js_stream *stream,
                                               struct rb_reader *reader);
