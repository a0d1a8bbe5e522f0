/* inside.h - what the files of this simulation share: run (plan, sessions, faults), ask (what clients send and hear), check. */
#pragma once

#include "js_rig.h"
#include "model.h"
#include "ringbus/env.h"
#include "run.h"

#define STREAMS 5
#define CONSUMERS 7
#define OPS_MAX MODEL_MESSAGES
#define ACKS_MAX 20000

enum stream_kind {
    SERIAL, /* exactly the model */
    QUEUE,  /* acks take messages away */
    AGED,   /* time does */
};
struct sim_stream {
    const char *name;
    char prefix;
    enum stream_kind kind;
    bool memory;
    char config[512];
    struct model model;
    struct model_op ops[OPS_MAX];
    uint32_t op_count, op_first; /* before op_first: in the model */
};

enum consumer_kind { PULL, ACK_ALL, PUSH, ORDERED };
struct sim_consumer {
    uint32_t stream;
    const char *name;
    enum consumer_kind kind;
    int subject;                         /* its filter; -1: none */
    uint64_t last_stream, last_consumer; /* ORDERED */
    uint8_t acked[MODEL_MESSAGES + 1];   /* by sequence: 1 sent, 2 confirmed */
};

struct sim_ack {
    uint32_t consumer;
    uint64_t seq;
};

struct run {
    struct js_rig rig;
    struct rb_env draw;
    bool trace, failed, held, flipped, full;
    char *failure;
    struct run_totals *totals;
    uint64_t digest;
    struct model_publish publishes[MODEL_MESSAGES + 2];
    uint32_t number, key, batch, life;
    struct sim_stream streams[STREAMS];
    struct sim_consumer consumers[CONSUMERS];
    struct sim_ack acks[ACKS_MAX];
    uint32_t ack_count;
    uint32_t body_max, capacity;
    uint32_t actual[MODEL_MESSAGES + 1]; /* what a stream was found to hold */
    struct model scratch;
    bool extra_there, extra_asked, extra_unsure; /* the stream that comes and goes */
};

/* run.c */
__attribute__((format(printf, 2, 3))) void run_fail(struct run *r, const char *format, ...);
__attribute__((format(printf, 2, 3))) void run_trace(struct run *r, const char *format, ...);
uint32_t run_below(struct run *r, uint32_t bound);
bool run_chance(struct run *r, uint32_t permille);
void run_stir(struct run *r, uint64_t value);

/* ask.c */
/** Makes the streams and consumers that are not there. */
void ask_streams(struct run *r);
/** One random operation. */
void ask_something(struct run *r);
/** Looks at everything that was heard. */
void ask_heard(struct run *r);
/** The subject of a publish. out: 16 bytes. */
void ask_subject(const struct run *r, const struct model_publish *publish, char *out);
/** Asks all consumers for what they have. */
void ask_pulls(struct run *r, bool again);

/* check.c */
/** Nothing is under way: every stream is what its model says. */
void check_all(struct run *r);
/** After a start: finds out what became of that which was in flight. */
void check_found(struct run *r);
/** After bits were flipped: what can be read is right. */
void check_damaged(struct run *r);
/** A body that was heard or read: its number, 0: it is wrong. */
uint32_t check_body(struct run *r, const struct sim_stream *stream, struct rb_slice subject,
                    uint32_t header_len, struct rb_slice payload);
