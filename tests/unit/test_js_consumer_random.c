/* Consumers against a naive count: random messages, removals, purges, requests, acks, delays, refusals of the log, restarts.
 *
 * After each step: pending is exact; what is unacked is what was delivered and not acked; the floor is below everything unacked.
 * An ack that was confirmed is never delivered again, whatever was lost.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "consumer_rig.h"

#define SEQ_MAX 4000
#define STEPS 1500

struct world {
    struct rig *rig;
    uint64_t random;
    bool confirmed[SEQ_MAX]; /* the answer to its ack came, or nobody asked and it was committed */
    uint32_t delivered[SEQ_MAX];
    uint32_t looked; /* rig->sent[0..looked) were taken in */
    struct rb_out checkpoint;
    bool has_checkpoint;
    bool other_filters; /* then removals of what matched before are found by the redelivery only */
    uint32_t committed;
};

static uint32_t below(struct world *w, uint32_t bound)
{
    w->random = w->random * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (uint32_t)(w->random >> 33) % bound;
}

static struct rb_js_consumer *consumer_of(struct world *w)
{
    return rb_js_consumer_find(&w->rig->stream, RB_S("C"));
}

static void take_in(struct world *w)
{
    for (; w->looked < w->rig->sent_count; w->looked++) {
        const struct rig_sent *sent = &w->rig->sent[w->looked];
        uint64_t acked;
        if (sent->stream_seq > 0) {
            assert_false(w->confirmed[sent->stream_seq]);
            w->delivered[sent->stream_seq]++;
        } else if (sscanf(sent->to, "r.ack%llu", (unsigned long long *)&acked) == 1) {
            w->confirmed[acked] = true;
        }
    }
}

static void check(struct world *w)
{
    struct rb_js_consumer *consumer = consumer_of(w);
    struct rb_js_consumer_inside *in = consumer->inside;
    take_in(w);
    assert_int_equal(in->pending, rig_naive_pending(w->rig, consumer));
    uint32_t live = 0, again = 0, acking = 0;
    uint64_t last = 0;
    for (struct rb_js_pending_entry *entry = rb_js_pending_first(&in->acks); entry != NULL;
         entry = rb_js_pending_after(&in->acks, entry)) {
        struct rb_msgstore_entry there;
        assert_true(entry->seq > last);
        last = entry->seq;
        assert_true(w->other_filters || rb_msgstore_find(w->rig->stream.store, entry->seq, &there));
        assert_false(w->confirmed[entry->seq]);
        assert_ptr_equal(rb_js_pending_find(&in->acks, entry->seq), entry);
        live++;
        again += entry->count > 1;
        acking += (entry->flags & RB_JS_PENDING_ACKING) != 0;
    }
    assert_int_equal(in->acks.live, live);
    assert_int_equal(in->acks.again, again);
    assert_int_equal(in->acks.acking, acking);
    const struct rb_js_pending_entry *first = rb_js_pending_first(&in->acks);
    if (first != NULL) {
        assert_true(consumer->ack_floor.stream_seq < first->seq);
        assert_true(consumer->delivered.stream_seq >= last);
    }
    assert_true(consumer->ack_floor.consumer_seq <= consumer->delivered.consumer_seq);
}

static const struct rig_sent *any_message(struct world *w)
{
    for (uint32_t i = 0; i < 10 && w->rig->sent_count > 0; i++) {
        const struct rig_sent *sent = &w->rig->sent[below(w, w->rig->sent_count)];
        if (sent->stream_seq > 0) {
            return sent;
        }
    }
    return NULL;
}

static void ack_some(struct world *w)
{
    static const char *const verbs[] = { "+ACK", "",     "+ACK",  "-NAK",   "-NAK 500ms",
                                         "+WPI", "+ACK", "+TERM", "+NXT 2", "nonsense" };
    for (uint32_t i = below(w, 8); i > 0; i--) {
        const struct rig_sent *sent = any_message(w);
        if (sent != NULL) {
            struct rig_sent copy = *sent;
            const char *verb = verbs[below(w, 10)];
            char reply[32] = "";
            if (strcmp(verb, "+ACK") == 0 && below(w, 2) == 0) {
                (void)snprintf(reply, sizeof(reply), "r.ack%llu",
                               (unsigned long long)copy.stream_seq);
            } else if (verb[0] == '+' && verb[1] == 'N') {
                strcpy(reply, "r.next");
            }
            rig_ack(w->rig, consumer_of(w), &copy, verb, reply);
        }
    }
}

static void publish_some(struct world *w)
{
    struct rb_msgstore_state state;
    rb_msgstore_state(w->rig->stream.store, &state);
    for (uint32_t i = below(w, 12); i > 0 && state.last_seq + 20 < SEQ_MAX; i--) {
        static const char *const subjects[] = { "s.a", "s.b", "s.c.d" };
        (void)rig_publish(w->rig, subjects[below(w, 3)], "a message");
    }
}

static void remove_some(struct world *w)
{
    struct rb_msgstore_state state;
    rb_msgstore_state(w->rig->stream.store, &state);
    for (uint32_t i = below(w, 6); i > 0 && state.last_seq > 0; i--) {
        (void)rig_remove(w->rig, 1 + below(w, (uint32_t)state.last_seq));
    }
}

static void purge_some(struct world *w)
{
    struct rb_msgstore_state state;
    rb_msgstore_state(w->rig->stream.store, &state);
    if (below(w, 4) == 0) {
        rig_purge(w->rig, "s.b", 0, 2);
    } else if (state.last_seq > state.first_seq) {
        rig_purge(w->rig, NULL,
                  state.first_seq + below(w, (uint32_t)(state.last_seq - state.first_seq)), 0);
    }
}

static void restart(struct world *w)
{
    struct rig *rig = w->rig;
    /* what was not committed is lost; what was sent is forgotten by the rig only */
    take_in(w);
    rig_restart(rig, w->has_checkpoint ? &w->checkpoint : NULL,
                w->has_checkpoint ? w->committed : 0);
    w->looked = 0;
}

static void change_filters(struct world *w, const char *policy)
{
    static const char *const filters[] = { ",\"filter_subject\":\"s.>\"",
                                           ",\"filter_subject\":\"s.a\"",
                                           ",\"filter_subjects\":[\"s.b\",\"s.c.*\"]" };
    char json[512];
    (void)snprintf(json, sizeof(json),
                   "{\"durable_name\":\"C\",\"ack_policy\":\"explicit\",\"ack_wait\":%u000000,"
                   "\"max_ack_pending\":%u%s%s}",
                   500 + below(w, 3) * 500, 20 + below(w, 3) * 20, policy, filters[below(w, 3)]);
    w->other_filters = true;
    assert_ptr_equal(rig_consumer(w->rig, json), consumer_of(w));
}

static void step(struct world *w, const char *policy)
{
    struct rig *rig = w->rig;
    char body[64];
    switch (below(w, 24)) {
    case 0:
        remove_some(w);
        break;
    case 1:
        purge_some(w);
        break;
    case 2:
        rig_pass(rig, below(w, 800) * RIG_MS);
        break;
    case 3:
        if (w->has_checkpoint) {
            rb_out_deinit(&w->checkpoint);
        }
        w->has_checkpoint = true;
        rig_checkpoint(rig, &w->checkpoint, &w->committed);
        break;
    case 4:
        if (below(w, 4) == 0) {
            restart(w);
        }
        break;
    case 5:
        rig->hold = !rig->hold;
        break;
    case 6:
        rig->refuse = below(w, 3) == 0 ? RB_ERR_FULL : RB_OK;
        break;
    case 7:
        rb_msgstore_model_set_cold(rig->stream.store, below(w, 2) == 0);
        break;
    case 8:
        if (rig->refuse == RB_OK && !rig->hold && below(w, 4) == 0) {
            change_filters(w, policy);
        }
        break;
    case 9:
        rig->run_max = 1 + below(w, 20);
        break;
    case 10:
    case 11:
    case 12:
        (void)snprintf(body, sizeof(body), "{\"batch\":%u,\"no_wait\":%s,\"expires\":%u000000}",
                       1 + below(w, 30), below(w, 2) == 0 ? "true" : "false", below(w, 2) * 700);
        rig_request(rig, consumer_of(w), "r.pull", "", body);
        break;
    case 13:
    case 14:
    case 15:
    case 16:
        publish_some(w);
        break;
    default:
        ack_some(w);
        break;
    }
    if (below(w, 3) != 0) {
        rig_turn(rig);
    }
    check(w);
}

static void run_seed(uint64_t seed, const char *policy)
{
    struct world *w = calloc(1, sizeof(*w));
    char json[256];
    w->rig = rig_create();
    w->random = seed;
    rig_listen(w->rig, "r.*", NULL);
    publish_some(w);
    (void)snprintf(json, sizeof(json),
                   "{\"durable_name\":\"C\",\"ack_policy\":\"explicit\",\"ack_wait\":1000000000,"
                   "\"max_ack_pending\":50%s,\"filter_subject\":\"s.>\"}",
                   policy);
    assert_non_null(rig_consumer(w->rig, json));
    for (uint32_t i = 0; i < STEPS; i++) {
        step(w, policy);
    }
    /* In the end everything comes through. */
    w->rig->hold = false;
    w->rig->refuse = RB_OK;
    rig_turn(w->rig);
    for (uint32_t i = 0; i < 500; i++) {
        struct rb_js_consumer *consumer = consumer_of(w);
        if (consumer->inside->pending == 0 && consumer->inside->acks.live == 0) {
            break;
        }
        uint32_t from = w->rig->sent_count;
        rig_pull(w->rig, consumer, "r.pull", "{\"batch\":20,\"expires\":500000000}");
        rig_pass(w->rig, 800 * RIG_MS);
        for (; from < w->rig->sent_count; from++) {
            struct rig_sent sent = w->rig->sent[from];
            if (sent.stream_seq > 0) {
                rig_ack(w->rig, consumer, &sent, "+ACK", "");
            }
        }
        rig_turn(w->rig);
        check(w);
    }
    assert_int_equal(consumer_of(w)->inside->pending, 0);
    assert_int_equal(consumer_of(w)->inside->acks.live, 0);
    struct rb_js_consumer *consumer = consumer_of(w);
    assert_int_equal(consumer->ack_floor.stream_seq, consumer->delivered.stream_seq);
    /* and a restart from the beginning finds the same */
    struct rb_js_consumer_place delivered = consumer->delivered;
    w->has_checkpoint ? rb_out_deinit(&w->checkpoint) : (void)0;
    rig_restart(w->rig, NULL, 0);
    consumer = consumer_of(w);
    assert_int_equal(consumer->delivered.consumer_seq, delivered.consumer_seq);
    assert_int_equal(consumer->inside->pending, 0);
    rig_destroy(w->rig);
    free(w);
}

static void everything_is_counted(void **state)
{
    for (uint64_t seed = 1; seed <= 6; seed++) {
        run_seed(seed, "");
    }
}

static void with_a_maximum_of_deliveries(void **state)
{
    for (uint64_t seed = 100; seed <= 105; seed++) {
        run_seed(seed, ",\"max_deliver\":3");
    }
}

static void from_the_last_of_each_subject(void **state)
{
    for (uint64_t seed = 200; seed <= 203; seed++) {
        run_seed(seed, ",\"deliver_policy\":\"last_per_subject\"");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_is_counted),
        cmocka_unit_test(with_a_maximum_of_deliveries),
        cmocka_unit_test(from_the_last_of_each_subject),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
