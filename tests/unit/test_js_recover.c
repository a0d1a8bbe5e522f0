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
        enum rb_err err = js_rig_get(&world->rig, stream, known->seq, &message);
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
        assert_int_equal(js_rig_get(&world->rig, stream, seq, &message), RB_OK);
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

static struct js_rig *open_rig(void)
{
    struct js_rig *rig = malloc(sizeof(*rig));
    assert_non_null(rig);
    js_rig_init(rig, 11);
    rig->wal_file_bytes = 2u << 20;
    js_rig_open(rig);
    return rig;
}

static void close_rig(struct js_rig *rig)
{
    js_rig_close(rig);
    js_rig_deinit(rig);
    free(rig);
}

static uint64_t messages(struct js_rig *rig, const char *name)
{
    struct rb_msgstore_state state;
    rb_msgstore_state(js_rig_stream(rig, name)->store, &state);
    return state.messages;
}

/* What is not in the store comes back too: configuration, ids, lifetimes, sums; from the log, and from a checkpoint. */
static void everything_comes_back(void **state)
{
    struct js_rig *rig = open_rig();
    assert_non_null(
        js_rig_create(rig, "{\"name\":\"E\",\"subjects\":[\"e\"],\"allow_msg_ttl\":true}", NULL));
    assert_true(js_rig_update(rig,
                              "{\"name\":\"E\",\"subjects\":[\"e\",\"f\"],\"allow_msg_ttl\":true,"
                              "\"max_bytes\":5000}",
                              NULL));
    js_rig_publish(rig, "f", NULL, "Nats-Msg-Id: one\r\nNats-TTL: 100s\r\n", "x");
    js_rig_publish(rig, "e", NULL, "Nats-Msg-Id: two\r\nNats-TTL: never\r\n", "x");
    js_rig_settle(rig);
    for (int round = 0; round < 3; round++) {
        if (round == 1) {
            rb_js_checkpoint(js_rig_stream(rig, "E"), true);
            js_rig_settle(rig);
        }
        if (round < 2) {
            js_rig_cut(rig, true);
        } else {
            js_rig_close(rig); /* checkpoints everything: nothing is left to apply */
        }
        js_rig_open(rig);
        struct rb_js_stream *stream = js_rig_stream(rig, "E");
        assert_int_equal(stream->config->max_bytes, 5000);
        assert_int_equal(js_rig_js_account(rig)->reserved_storage, 5000);
        assert_int_equal(rig->shared.reserved_storage, 5000);
        struct rb_msgstore_state store;
        rb_msgstore_state(stream->store, &store);
        assert_int_equal(rig->shared.storage, store.bytes);
        assert_string_equal(js_rig_request(rig, "f", "Nats-Msg-Id: one\r\n", "x"),
                            "{\"stream\":\"E\",\"seq\":1,\"duplicate\": true}");
        assert_string_equal(js_rig_request(rig, "f", "Nats-Expected-Last-Msg-Id: zwei\r\n", "x"),
                            "{\"error\":{\"code\":400,\"err_code\":10070,\"description\":"
                            "\"wrong last msg ID: two\"},\"stream\":\"E\",\"seq\":0}");
    }
    js_rig_advance(rig, UINT64_C(100500000000));
    assert_int_equal(messages(rig, "E"), 1);
    close_rig(rig);
}

/* The log forgets what two checkpoints have. */
static void log_is_cut(void **state)
{
    struct js_rig *rig = open_rig();
    struct rb_wal_group_info info;
    assert_non_null(js_rig_create(rig, "{\"name\":\"G\",\"subjects\":[\"g\"]}", NULL));
    struct rb_js_stream *stream = js_rig_stream(rig, "G");
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 10; i++) {
            js_rig_publish(rig, "g", NULL, NULL, "x");
        }
        js_rig_settle(rig);
        rb_js_checkpoint(stream, true);
        js_rig_settle(rig);
    }
    assert_true(rb_wal_group(rig->js->log, stream->group.options.id, &info));
    assert_int_equal(info.base, 20);
    assert_int_equal(info.last, 30);
    js_rig_cut(rig, true);
    js_rig_open(rig);
    assert_int_equal(messages(rig, "G"), 30);
    close_rig(rig);
}

/* A cut while a stream is made or dropped: it is there or not, never half; its files do not come back in the next one. */
static void cut_while_made_and_dropped(void **state)
{
    for (uint64_t turns = 0; turns < 60; turns++) {
        struct js_rig *rig = open_rig();
        assert_non_null(js_rig_create(rig, "{\"name\":\"D\",\"subjects\":[\"d\"]}", NULL));
        js_rig_publish(rig, "d", NULL, NULL, "old");
        js_rig_settle(rig);
        rb_js_checkpoint(js_rig_stream(rig, "D"), true);
        js_rig_settle(rig);
        struct deletion gone = { .change = { .done = deleted } };
        world = calloc(1, sizeof(*world));
        assert_non_null(world);
        rb_js_stream_delete(js_rig_stream(rig, "D"), &gone.change);
        for (uint64_t i = 0; i < turns; i++) {
            (void)js_rig_turn(rig);
            uint64_t due = rb_sim_disk_due(rig->disk);
            rig->now_ns = due != UINT64_MAX && due > rig->now_ns ? due : rig->now_ns + 1000;
        }
        bool answered = world->known[0].deleted;
        free(world);
        js_rig_cut(rig, true);
        js_rig_open(rig);
        struct rb_js_stream *stream = js_rig_stream(rig, "D");
        assert_true(!answered || stream == NULL);
        if (stream == NULL) {
            assert_non_null(js_rig_create(rig, "{\"name\":\"D\",\"subjects\":[\"d\"]}", NULL));
            assert_int_equal(messages(rig, "D"), 0);
        } else {
            assert_int_equal(messages(rig, "D"), 1);
        }
        js_rig_settle(rig);
        close_rig(rig);
    }
}

/* Lost entries: the stream is named, its files stay, another one serves. */
static void damaged_log(void **state)
{
    struct js_rig *rig = open_rig();
    assert_non_null(js_rig_create(rig, "{\"name\":\"X\",\"subjects\":[\"x\"]}", NULL));
    assert_non_null(js_rig_create(rig, "{\"name\":\"Y\",\"subjects\":[\"y\"]}", NULL));
    static char body[2000];
    memset(body, 'b', sizeof(body) - 1);
    for (int i = 0; i < 20; i++) {
        js_rig_publish(rig, "x", NULL, NULL, body);
        js_rig_settle(rig);
    }
    js_rig_publish(rig, "y", NULL, NULL, "fine");
    js_rig_settle(rig);
    js_rig_cut(rig, false);
    /* A bit in the middle of X's messages. */
    uint64_t size = 0, at = 0;
    const char *name = NULL;
    for (uint32_t i = 0; at == 0 && (name = rb_sim_disk_name(rig->disk, i)) != NULL;) {
        i++;
        uint8_t *bytes =
            strncmp(name, "log/", 4) == 0 ? rb_sim_disk_bytes(rig->disk, name, &size) : NULL;
        uint32_t found = 0;
        for (uint64_t k = 0; bytes != NULL && k + 100 < size && at == 0; k += 50) {
            found += bytes[k] == 'b';
            at = found == 400 ? k : 0;
        }
    }
    assert_true(at != 0);
    assert_true(rb_sim_disk_flip(rig->disk, name, at, 1));
    js_rig_open(rig);
    assert_true(rig->js->ready_to_serve);
    struct rb_js_stream *stream = js_rig_stream(rig, "X");
    assert_non_null(stream);
    assert_int_equal(stream->phase, RB_JS_STREAM_OFFLINE);
    assert_non_null(strstr(stream->why, "damaged"));
    assert_true(rig->log_count > 0);
    assert_null(js_rig_request(rig, "x", NULL, "x"));
    assert_string_equal(js_rig_request(rig, "y", NULL, "x"), "{\"stream\":\"Y\",\"seq\":2}");
    js_rig_close(rig);
    js_rig_open(rig);
    assert_int_equal(js_rig_stream(rig, "X")->phase, RB_JS_STREAM_OFFLINE);
    assert_true(js_rig_delete(rig, "X", NULL));
    assert_null(js_rig_stream(rig, "X"));
    close_rig(rig);
}

/* The log is used up: publishes are refused by name, checkpoints make room, and it goes on by itself. */
static void full_log(void **state)
{
    struct js_rig *rig = malloc(sizeof(*rig));
    assert_non_null(rig);
    js_rig_init(rig, 12);
    rig->wal_file_bytes = 2u << 20;
    rig->wal_files_max = 4;
    js_rig_open(rig);
    assert_non_null(js_rig_create(rig, "{\"name\":\"U\",\"subjects\":[\"u\"]}", NULL));
    assert_non_null(js_rig_create(rig, "{\"name\":\"O\",\"subjects\":[\"o\"]}", NULL));
    js_rig_publish(rig, "o", NULL, NULL, "an old one, which pins the log");
    js_rig_settle(rig);
    static char body[60000];
    memset(body, 'b', sizeof(body) - 1);
    uint64_t stored = 0;
    uint32_t refusals = 0;
    for (int i = 0; i < 600; i++) {
        const char *got = js_rig_request(rig, "u", NULL, body);
        assert_non_null(got);
        if (strstr(got, "\"err_code\":10023") != NULL) {
            refusals++;
            js_rig_advance(rig, UINT64_C(2000000000));
        } else {
            assert_non_null(strstr(got, "\"seq\":"));
            assert_null(strstr(got, "error"));
            stored++;
        }
        js_rig_forget(rig);
    }
    assert_true(refusals > 0 && refusals < 100);
    assert_int_equal(messages(rig, "U"), stored);
    js_rig_cut(rig, true);
    js_rig_open(rig);
    assert_int_equal(messages(rig, "U"), stored);
    assert_int_equal(messages(rig, "O"), 1);
    close_rig(rig);
}

/* On a full log what gives space back is still taken, reads go on, and afterwards publishes as well. */
static void full_log_is_purged(void **state)
{
    struct js_rig *rig = malloc(sizeof(*rig));
    assert_non_null(rig);
    js_rig_init(rig, 13);
    rig->wal_file_bytes = 2u << 20;
    js_rig_open(rig);
    assert_non_null(
        js_rig_create(rig, "{\"name\":\"U\",\"subjects\":[\"u\"],\"allow_direct\":true}", NULL));
    struct rb_sim_disk_options disk = { .delay_min_ns = 10000,
                                        .delay_max_ns = 100000,
                                        .capacity_bytes = 7u << 20 };
    rb_sim_disk_set(rig->disk, &disk);
    static char body[20000];
    memset(body, 'b', sizeof(body) - 1);
    uint64_t stored = 0;
    const char *got;
    for (uint32_t refused = 0; refused < 20;) { /* for a while, not only once */
        got = js_rig_request(rig, "u", NULL, body);
        assert_non_null(got);
        if (strstr(got, "error") == NULL) {
            stored++;
        } else {
            assert_true(strstr(got, "\"err_code\":10023") != NULL ||
                        strstr(got, "\"err_code\":10167") != NULL);
            refused++;
        }
        assert_true(stored < 2000);
        js_rig_forget(rig);
    }
    char request[32];
    for (uint64_t seq = 1; seq <= stored / 2; seq++) {
        (void)snprintf(request, sizeof(request), "{\"seq\":%u}", (unsigned)seq);
        got = js_rig_request(rig, "$JS.API.STREAM.MSG.DELETE.U", NULL, request);
        assert_non_null(strstr(got, "\"success\":true"));
    }
    (void)snprintf(request, sizeof(request), "{\"seq\":%u}", (unsigned)(stored / 2 + 1));
    got = js_rig_request(rig, "$JS.API.DIRECT.GET.U", NULL, request);
    assert_non_null(got);
    assert_string_equal(got, body);
    assert_int_equal(messages(rig, "U"), stored - stored / 2);
    got = js_rig_request(rig, "$JS.API.STREAM.PURGE.U", NULL, "");
    assert_non_null(got);
    assert_non_null(strstr(got, "\"success\":true"));
    js_rig_cut(rig, true);
    js_rig_open(rig);
    assert_true(rig->js->ready_to_serve);
    assert_int_equal(messages(rig, "U"), 0);
    disk.capacity_bytes = 0; /* somebody else made room */
    rb_sim_disk_set(rig->disk, &disk);
    js_rig_advance(rig, UINT64_C(3000000000));
    got = js_rig_request(rig, "u", NULL, "x");
    assert_non_null(got);
    assert_null(strstr(got, "error"));
    close_rig(rig);
}

#ifdef JS_RIG_REAL
/* Damages all checkpoints of the one stream. */
static void spoil_checkpoints(struct js_rig *rig)
{
    uint32_t count = 0;
    for (uint32_t i = 0; rb_sim_disk_name(rig->disk, i) != NULL; i++) {
        const char *name = rb_sim_disk_name(rig->disk, i);
        if (strncmp(name, "streams/", 8) != 0 || strstr(name, ".ckpt") == NULL) {
            continue;
        }
        for (uint64_t at = 0; at < 16384; at += 64) {
            count += rb_sim_disk_flip(rig->disk, name, at, 0x40);
        }
    }
    assert_true(count > 0);
}

/* Messages alone are not the stream: it is made from the log once more, or not served. */
static void lost_checkpoints(void **state)
{
    struct js_rig *rig = open_rig();
    assert_non_null(js_rig_create(rig, "{\"name\":\"L\",\"subjects\":[\"l\"]}", NULL));
    for (int i = 0; i < 5; i++) {
        assert_non_null(js_rig_request(rig, "l", "Nats-Msg-Id: one\r\n", "x"));
        assert_non_null(js_rig_request(rig, "l", NULL, "y"));
    }
    rb_js_checkpoint(js_rig_stream(rig, "L"), true);
    js_rig_settle(rig);
    js_rig_cut(rig, true);
    spoil_checkpoints(rig);
    js_rig_open(rig);
    assert_int_equal(js_rig_stream(rig, "L")->phase, RB_JS_STREAM_SERVING);
    assert_int_equal(messages(rig, "L"), 6);
    assert_string_equal(js_rig_request(rig, "l", "Nats-Msg-Id: one\r\n", "x"),
                        "{\"stream\":\"L\",\"seq\":1,\"duplicate\": true}");
    for (int i = 0; i < 3; i++) { /* now the log forgets */
        assert_non_null(js_rig_request(rig, "l", NULL, "z"));
        rb_js_checkpoint(js_rig_stream(rig, "L"), true);
        js_rig_settle(rig);
    }
    js_rig_cut(rig, true);
    spoil_checkpoints(rig);
    js_rig_open(rig);
    assert_true(rig->js->ready_to_serve);
    assert_int_equal(js_rig_stream(rig, "L")->phase, RB_JS_STREAM_OFFLINE);
    assert_non_null(strstr(js_rig_stream(rig, "L")->why, "checkpoints"));
    close_rig(rig);
}
#endif

/* The server died in the middle of a restore. */
static void half_restored(void **state)
{
    struct js_rig *rig = open_rig();
    assert_non_null(js_rig_create(
        rig, "{\"name\":\"H\",\"subjects\":[\"_RESTORE_.0123456789012345678901\"]}", NULL));
    assert_non_null(
        js_rig_create(rig, "{\"name\":\"K\",\"subjects\":[\"_RESTORE_.somebody\"]}", NULL));
    js_rig_cut(rig, true);
    js_rig_open(rig);
    assert_null(js_rig_stream(rig, "H"));
    assert_non_null(js_rig_stream(rig, "K"));
    js_rig_cut(rig, true);
    js_rig_open(rig);
    assert_null(js_rig_stream(rig, "H"));
    close_rig(rig);
}

/* With sync_interval as a duration the answer does not wait for the disk. */
static void lazy(void **state)
{
    struct js_rig *rig = open_rig();
    rig->settings.lazy = true;
    assert_non_null(js_rig_create(rig, "{\"name\":\"Z\",\"subjects\":[\"z\"]}", NULL));
    js_rig_listen(rig, "answer");
    rb_sim_disk_hold(rig->disk, true);
    js_rig_publish(rig, "z", "answer", NULL, "x");
    (void)js_rig_turn(rig);
    (void)js_rig_turn(rig);
    assert_int_equal(js_rig_heard(rig, "answer"), 1);
    rb_sim_disk_hold(rig->disk, false);
    js_rig_settle(rig);
    js_rig_cut(rig, true);
    js_rig_open(rig);
    assert_int_equal(messages(rig, "Z"), 1);
    close_rig(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_comes_back),
        cmocka_unit_test(log_is_cut),
        cmocka_unit_test(cut_while_made_and_dropped),
        cmocka_unit_test(damaged_log),
        cmocka_unit_test(lazy),
        cmocka_unit_test(full_log),
        cmocka_unit_test(full_log_is_purged),
#ifdef JS_RIG_REAL
        cmocka_unit_test(lost_checkpoints),
#endif
        cmocka_unit_test(half_restored),
        cmocka_unit_test(power_cuts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
