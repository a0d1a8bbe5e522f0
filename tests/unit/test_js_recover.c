/* Power cuts at any turn: every acknowledged publish is there once, at its sequence; what was deleted stays deleted. And what
 * becomes of streams whose log is damaged. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "js/stream_inside.h"
#include "js_rig.h"
#include "storage/disk/sim.h"

#define SEEDS 40
#define ROUNDS 6
#define MESSAGES_MAX 4000

/* What the test knows of one published message, by its number. */
struct known {
    uint64_t seq;           /* 0: never acknowledged */
    bool deleting, deleted; /* its deletion was asked for; confirmed, or seen after a cut */
};

struct deletion {
    struct rb_js_change change;
    uint32_t number;
};

struct world {
    struct js_rig rig;
    struct deletion
        deletions[MESSAGES_MAX]; /* by the message's number; a cut leaves some unanswered */
    struct known known[MESSAGES_MAX];
    uint32_t published;
};

static struct world *world;

static struct rb_js_stream *stream_of(void)
{
    struct rb_js_stream *stream = js_rig_stream(&world->rig, "C");
    assert_non_null(stream);
    assert_int_equal(stream->phase, RB_JS_STREAM_SERVING);
    return stream;
}

static void deleted(struct rb_js_change *change, struct rb_js_stream *stream,
                    const struct rb_js_outcome *outcome)
{
    struct deletion *deletion = (struct deletion *)change;
    if (outcome->error.code == 0) {
        world->known[deletion->number].deleted = true;
    }
}

/* Answers that came since the last time: "ack.<number>". */
static void take_answers(void)
{
    for (const struct js_rig_message *message = world->rig.first; message != NULL;
         message = message->next) {
        unsigned number;
        unsigned long long seq;
        if (sscanf(message->to, "ack.%u", &number) == 1 &&
            sscanf(message->body, "{\"stream\":\"C\",\"seq\":%llu}", &seq) == 1) {
            struct known *known = &world->known[number];
            assert_true(known->seq == 0 || known->seq == seq);
            known->seq = seq;
        }
    }
    js_rig_forget(&world->rig);
}

static void publish_one(void)
{
    struct js_rig *rig = &world->rig;
    char subject[32], reply[32], headers[64], body[64];
    uint32_t number = world->published++;
    (void)snprintf(subject, sizeof(subject), "c.%u", rb_env_below(&rig->env, 5));
    (void)snprintf(reply, sizeof(reply), "ack.%u", number);
    (void)snprintf(headers, sizeof(headers), "Nats-Msg-Id: id-%u\r\n", number);
    (void)snprintf(body, sizeof(body), "message %u", number);
    js_rig_publish(rig, subject, reply, headers, body);
}

static void delete_one(void)
{
    if (world->published == 0) {
        return;
    }
    uint32_t number = rb_env_below(&world->rig.env, world->published);
    struct known *known = &world->known[number];
    if (known->seq == 0 || known->deleting) {
        return;
    }
    struct deletion *deletion = &world->deletions[number];
    *deletion = (struct deletion){ .change = { .done = deleted }, .number = number };
    known->deleting = true;
    rb_js_stream_delete_message(stream_of(), known->seq, false, &deletion->change);
}

/* Everything that was promised. Messages are found by their sequence, so none can be there twice for one acknowledgement. */
static void check_promises(void)
{
    struct rb_js_stream *stream = stream_of();
    struct rb_message message;
    struct rb_msgstore_state state;
    rb_msgstore_state(stream->store, &state);
    for (uint32_t number = 0; number < world->published; number++) {
        const struct known *known = &world->known[number];
        char body[64], id[32];
        (void)snprintf(body, sizeof(body), "message %u", number);
        (void)snprintf(id, sizeof(id), "id-%u", number);
        if (known->seq == 0) {
            continue;
        }
        enum rb_err err = rb_msgstore_get(stream->store, known->seq, NULL, &message);
        if (known->deleted) {
            assert_int_equal(err, RB_ERR_MISSING);
        } else if (err != RB_OK && !known->deleting) {
            fail_msg("message %u, acknowledged as %llu, is gone (%s)", number,
                     (unsigned long long)known->seq, rb_err_text(err));
        } else if (err == RB_OK) {
            assert_memory_equal(message.payload.ptr + message.header_len, body, strlen(body));
        }
        assert_int_equal(rb_js_dedup_find(&stream->inside->dedup, rb_slice_text(id)), known->seq);
    }
    /* Bodies are unique: no message was stored twice. */
    static bool seen[MESSAGES_MAX];
    memset(seen, 0, sizeof(seen));
    for (uint64_t seq = rb_msgstore_next(stream->store, 1); seq != 0;
         seq = rb_msgstore_next(stream->store, seq + 1)) {
        unsigned number;
        assert_int_equal(rb_msgstore_get(stream->store, seq, NULL, &message), RB_OK);
        char body[64];
        size_t len = message.payload.len - message.header_len;
        assert_true(len < sizeof(body));
        memcpy(body, message.payload.ptr + message.header_len, len);
        body[len] = '\0';
        assert_int_equal(sscanf(body, "message %u", &number), 1);
        assert_true(number < MESSAGES_MAX && !seen[number]);
        seen[number] = true;
    }
}

static void run_round(bool power)
{
    struct js_rig *rig = &world->rig;
    uint32_t turns = 20 + rb_env_below(&rig->env, 200);
    for (uint32_t i = 0; i < turns; i++) {
        for (uint32_t k = rb_env_below(&rig->env, 6); k > 0; k--) {
            if (world->published < MESSAGES_MAX) {
                publish_one();
            }
        }
        if (rb_env_below(&rig->env, 4) == 0) {
            delete_one();
        }
        if (rb_env_below(&rig->env, 20) == 0) {
            rb_js_checkpoint(stream_of(), true);
        }
        (void)js_rig_turn(rig);
        if (rb_env_below(&rig->env, 2) == 0) {
            uint64_t due = rb_sim_disk_due(rig->disk);
            rig->now_ns = due != UINT64_MAX && due > rig->now_ns ? due : rig->now_ns + 1000;
        }
        take_answers();
    }
    js_rig_cut(rig, power);
    take_answers();
}

static void cut_one(uint64_t seed)
{
    memset(world, 0, sizeof(*world));
    struct js_rig *rig = &world->rig;
    js_rig_init(rig, seed);
    rig->wal_file_bytes = 2u << 20;
    js_rig_open(rig);
    js_rig_listen(rig, "ack.*");
    struct rb_js_error error;
    assert_non_null(js_rig_create(
        rig, "{\"name\":\"C\",\"subjects\":[\"c.*\"],\"duplicate_window\":100000000000}", &error));
    for (uint32_t round = 0; round < ROUNDS; round++) {
        run_round(rb_env_below(&rig->env, 3) != 0);
        js_rig_open(rig);
        assert_true(rig->js->ready_to_serve);
        /* What is missing was being deleted when the power went. */
        struct rb_msgstore_entry entry;
        for (uint32_t number = 0; number < world->published; number++) {
            struct known *known = &world->known[number];
            if (known->deleting && !known->deleted) {
                known->deleted = !rb_msgstore_find(stream_of()->store, known->seq, &entry);
                known->deleting = known->deleted;
            }
        }
        check_promises();
    }
    js_rig_close(rig);
    js_rig_open(rig);
    check_promises();
    js_rig_close(rig);
    js_rig_deinit(rig);
    uint32_t acknowledged = 0, deleted_count = 0;
    for (uint32_t number = 0; number < world->published; number++) {
        acknowledged += world->known[number].seq != 0;
        deleted_count += world->known[number].deleted;
    }
    assert_true(acknowledged > 100 && deleted_count > 5 && acknowledged < world->published);
}

static void power_cuts(void **state)
{
    world = calloc(1, sizeof(*world));
    assert_non_null(world);
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        cut_one(seed);
    }
    free(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(power_cuts) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
