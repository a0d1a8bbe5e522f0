/* transport_suite.c - every case drives two transports through transport.h and keeps a record of
 * each connection. The contract's numbered rules that concern any event are checked as events
 * arrive (record_event); the cases check what should have arrived.
 */
#include "transport_suite.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ringbus/bounds.h"

#define RECORDS_MAX 128
#define ROUNDS_MAX 20000
#define QUIET_ROUNDS 60
#define KIND_COUNT (RB_EVENT_ACCEPT_FAILED + 1)

struct record {
    struct rb_conn_id id;
    uint32_t count[KIND_COUNT];
    enum rb_err sent_err, failed_err;
    bool sending, closing; /* what we asked for */
    uint64_t received_bytes;
    uint64_t wrong_bytes; /* that do not follow the pattern */
    uint8_t begin[64];    /* the first of them */
    void *user;
    struct rb_addr peer, local;
};

struct side {
    struct rb_transport *t;
    struct record records[RECORDS_MAX];
    uint32_t record_count;
    uint32_t accept_failed_count;
};

struct fixture {
    const struct suite_driver *driver;
    struct suite_world world;
    struct side server, client;
    uint32_t listener;
    struct rb_addr bound;
    uint8_t *pattern; /* PATTERN_BYTES of what byte_at() says */
};

#define PATTERN_BYTES ((size_t)32 << 20)

static uint8_t byte_at(uint64_t offset)
{
    return (uint8_t)(offset ^ offset >> 8 ^ offset >> 16);
}

static struct record *find_record(struct side *side, struct rb_conn_id id)
{
    for (uint32_t i = side->record_count; i > 0; i--) {
        if (rb_conn_id_equal(side->records[i - 1].id, id)) {
            return &side->records[i - 1];
        }
    }
    return NULL;
}

static struct record *add_record(struct side *side, struct rb_conn_id id)
{
    assert_true(side->record_count < RECORDS_MAX);
    assert_int_not_equal(id.generation, 0);
    assert_null(find_record(side, id));
    struct record *record = &side->records[side->record_count++];
    *record = (struct record){ .id = id };
    return record;
}

static void record_bytes(struct record *record, struct rb_slice bytes)
{
    assert_true(bytes.len > 0);
    for (size_t i = 0; i < bytes.len; i++) {
        uint64_t offset = record->received_bytes + i;
        record->wrong_bytes += bytes.ptr[i] != byte_at(offset);
        if (offset < sizeof(record->begin)) {
            record->begin[offset] = bytes.ptr[i];
        }
    }
    record->received_bytes += bytes.len;
}

/* Rules 1, 2, 3 and 6 of transport.h, for whatever arrives. */
static void record_event(struct side *side, const struct rb_event *event)
{
    if (event->kind == RB_EVENT_ACCEPT_FAILED) {
        side->accept_failed_count++;
        return;
    }
    struct record *record = find_record(side, event->conn);
    if (event->kind == RB_EVENT_ACCEPTED) {
        assert_null(record);
        record = add_record(side, event->conn);
    }
    assert_non_null(record);
    assert_int_equal(record->count[RB_EVENT_CLOSED], 0);
    assert_ptr_equal(event->user, record->user);
    switch (event->kind) {
    case RB_EVENT_ACCEPTED:
    case RB_EVENT_CONNECTED:
        assert_int_equal(record->count[event->kind], 0);
        record->peer = event->peer;
        record->local = event->local;
        break;
    case RB_EVENT_RECEIVED:
        assert_int_equal(record->count[RB_EVENT_FAILED], 0);
        assert_false(record->closing);
        record_bytes(record, event->bytes);
        break;
    case RB_EVENT_SENT:
        assert_true(record->sending);
        record->sending = false;
        record->sent_err = event->err;
        break;
    case RB_EVENT_FAILED:
        assert_int_equal(record->count[RB_EVENT_FAILED], 0);
        record->failed_err = event->err;
        break;
    case RB_EVENT_CLOSED:
        assert_true(record->closing);
        assert_false(record->sending);
        break;
    case RB_EVENT_ACCEPT_FAILED:
        break;
    }
    record->count[event->kind]++;
}

static void poll_side(struct fixture *f, struct side *side)
{
    struct rb_event *events = NULL;
    uint32_t count = rb_transport_poll(side->t, f->world.poll_timeout_ns, &events);
    assert_true(count <= RB_EVENTS_MAX);
    for (uint32_t i = 0; i < count; i++) {
        record_event(side, &events[i]);
    }
}

static void pump(struct fixture *f)
{
    if (f->driver->step != NULL) {
        f->driver->step(&f->world);
    }
    poll_side(f, &f->server);
    poll_side(f, &f->client);
}

#define PUMP_UNTIL(f, what)                                                                        \
    for (uint32_t round_ = 0; !(what); round_++) {                                                 \
        if (round_ == ROUNDS_MAX) {                                                                \
            fail_msg("never came true: %s", #what);                                                \
        }                                                                                          \
        pump(f);                                                                                   \
    }

/* Long enough for what must not come to come. */
static void pump_quiet(struct fixture *f)
{
    for (uint32_t round = 0; round < QUIET_ROUNDS; round++) {
        pump(f);
    }
}

/* ---- the few things cases do ---- */

static struct record *connect_only(struct fixture *f, const struct rb_addr *addr)
{
    struct rb_conn_id id;
    assert_int_equal(rb_transport_connect(f->client.t, addr, &id), RB_OK);
    return add_record(&f->client, id);
}

/* One connection, open at both ends. */
static void connect_pair(struct fixture *f, struct record **ret_server, struct record **ret_client)
{
    uint32_t before = f->server.record_count;
    struct record *client = connect_only(f, &f->bound);
    PUMP_UNTIL(f, f->server.record_count > before && client->count[RB_EVENT_CONNECTED] == 1);
    *ret_server = &f->server.records[before];
    *ret_client = client;
}

static void send_slices(struct side *side, struct record *record, const struct rb_slice *slices,
                        uint32_t count)
{
    assert_int_equal(rb_transport_send(side->t, record->id, slices, count), RB_OK);
    record->sending = true;
}

static void send_bytes(struct side *side, struct record *record, struct rb_slice bytes)
{
    send_slices(side, record, &bytes, 1);
}

static void ask_close(struct side *side, struct record *record)
{
    assert_int_equal(rb_transport_close(side->t, record->id), RB_OK);
    record->closing = true;
}

static bool closed(const struct record *record)
{
    return record->count[RB_EVENT_CLOSED] == 1;
}

static void close_both(struct fixture *f, struct record *server, struct record *client)
{
    ask_close(&f->client, client);
    PUMP_UNTIL(f, server->count[RB_EVENT_FAILED] == 1);
    ask_close(&f->server, server);
    PUMP_UNTIL(f, closed(server) && closed(client));
}

/* ---- cases ---- */

static void connecting_gives_one_event_at_each_end(void **state)
{
    struct fixture *f = *state;
    struct record *server, *client;
    connect_pair(f, &server, &client);
    pump_quiet(f);
    assert_int_equal(f->server.record_count, 1);
    assert_int_equal(server->count[RB_EVENT_ACCEPTED], 1);
    assert_int_equal(client->count[RB_EVENT_CONNECTED], 1);
    assert_int_equal(client->peer.port, f->bound.port);
    assert_int_equal(server->local.port, f->bound.port);
    assert_int_equal(server->peer.port, client->local.port);
    close_both(f, server, client);
}

/* Sends of uneven slices, some empty, until `total` bytes have been given. */
static void send_more(struct side *side, struct record *record, struct fixture *f, uint64_t *at,
                      uint64_t total)
{
    if (record->sending || *at == total) {
        return;
    }
    struct rb_slice slices[RB_SEND_SLICES_MAX];
    uint32_t count = 1 + (uint32_t)(*at % RB_SEND_SLICES_MAX);
    uint64_t end = *at;
    for (uint32_t i = 0; i < count; i++) {
        size_t len = i % 7 == 3 ? 0 : 1 + (i * 577 + (uint32_t)*at) % 3000;
        len = len < total - end ? len : (size_t)(total - end);
        slices[i] = rb_slice_of(f->pattern + end, len);
        end += len;
    }
    send_slices(side, record, slices, count);
    *at = end;
}

static void bytes_arrive_whole_and_in_order_both_ways(void **state)
{
    struct fixture *f = *state;
    const uint64_t total = 3 << 20;
    uint64_t server_at = 0, client_at = 1;
    struct record *server, *client;
    connect_pair(f, &server, &client);
    send_bytes(&f->client, client, rb_slice_of(f->pattern, 1));
    for (uint32_t round = 0; server->received_bytes < total || client->received_bytes < total;
         round++) {
        assert_true(round < ROUNDS_MAX);
        send_more(&f->server, server, f, &server_at, total);
        send_more(&f->client, client, f, &client_at, total);
        pump(f);
    }
    PUMP_UNTIL(f, !server->sending && !client->sending);
    assert_int_equal(server->received_bytes, total);
    assert_int_equal(client->received_bytes, total);
    assert_int_equal(server->wrong_bytes + client->wrong_bytes, 0);
    close_both(f, server, client);
}

static void one_long_send_arrives_whole(void **state)
{
    struct fixture *f = *state;
    struct record *server, *client;
    connect_pair(f, &server, &client);
    struct rb_slice halves[2] = {
        rb_slice_of(f->pattern, PATTERN_BYTES / 2 + 1),
        rb_slice_of(f->pattern + PATTERN_BYTES / 2 + 1, PATTERN_BYTES / 2 - 1),
    };
    send_slices(&f->client, client, halves, 2);
    send_bytes(&f->server, server, rb_slice_of(f->pattern, PATTERN_BYTES));
    PUMP_UNTIL(f, server->received_bytes == PATTERN_BYTES && !server->sending);
    PUMP_UNTIL(f, client->received_bytes == PATTERN_BYTES && !client->sending);
    assert_int_equal(server->wrong_bytes + client->wrong_bytes, 0);
    assert_int_equal(server->sent_err, RB_OK);
    assert_int_equal(client->sent_err, RB_OK);
    close_both(f, server, client);
}

static void a_send_of_nothing_is_sent(void **state)
{
    struct fixture *f = *state;
    struct record *server, *client;
    connect_pair(f, &server, &client);
    struct rb_slice nothing[2] = { { 0 }, { 0 } };
    send_slices(&f->server, server, nothing, 2);
    PUMP_UNTIL(f, server->count[RB_EVENT_SENT] == 1);
    assert_int_equal(server->sent_err, RB_OK);
    assert_int_equal(client->received_bytes, 0);
    close_both(f, server, client);
}

static void a_second_send_is_refused_until_sent(void **state)
{
    struct fixture *f = *state;
    struct record *server, *client;
    connect_pair(f, &server, &client);
    struct rb_slice a = rb_slice_of(f->pattern, 5), b = rb_slice_of(f->pattern + 5, 7);
    send_bytes(&f->server, server, a);
    assert_int_equal(rb_transport_send(f->server.t, server->id, &b, 1), RB_ERR_BUSY);
    PUMP_UNTIL(f, !server->sending);
    send_bytes(&f->server, server, b);
    PUMP_UNTIL(f, client->received_bytes == 12);
    pump_quiet(f);
    assert_int_equal(server->count[RB_EVENT_SENT], 2);
    assert_int_equal(client->wrong_bytes, 0);
    close_both(f, server, client);
}

static void after_closed_the_id_is_stale(void **state)
{
    struct fixture *f = *state;
    struct record *server, *client;
    connect_pair(f, &server, &client);
    struct rb_slice late = RB_S("late");
    ask_close(&f->server, server);
    assert_int_equal(rb_transport_close(f->server.t, server->id), RB_ERR_STALE);
    assert_int_equal(rb_transport_send(f->server.t, server->id, &late, 1), RB_ERR_STALE);
    PUMP_UNTIL(f, client->count[RB_EVENT_FAILED] == 1);
    ask_close(&f->client, client);
    PUMP_UNTIL(f, closed(server) && closed(client));
    assert_int_equal(rb_transport_close(f->server.t, server->id), RB_ERR_STALE);
    assert_int_equal(rb_transport_send(f->server.t, server->id, &late, 1), RB_ERR_STALE);
    rb_transport_credit(f->server.t, server->id, false);
    rb_transport_set_user(f->server.t, server->id, f);
    struct record *next_server, *next_client;
    connect_pair(f, &next_server, &next_client); /* add_record refuses an id seen before */
    close_both(f, next_server, next_client);
}

static void the_end_of_the_peer_is_told_once(void **state)
{
    struct fixture *f = *state;
    struct record *server, *client;
    connect_pair(f, &server, &client);
    send_bytes(&f->client, client, rb_slice_of(f->pattern, 1000));
    PUMP_UNTIL(f, !client->sending);
    ask_close(&f->client, client);
    PUMP_UNTIL(f, server->count[RB_EVENT_FAILED] == 1);
    assert_int_equal(server->failed_err, RB_OK);
    assert_int_equal(server->received_bytes, 1000);
    pump_quiet(f);
    assert_int_equal(server->count[RB_EVENT_FAILED], 1);
    assert_int_equal(server->count[RB_EVENT_CLOSED], 0);
    ask_close(&f->server, server);
    PUMP_UNTIL(f, closed(server) && closed(client));
    assert_int_equal(client->count[RB_EVENT_FAILED], 0);
}

static void a_send_cut_by_close_is_told_before_closed(void **state)
{
    struct fixture *f = *state;
    for (uint32_t slice_count = 1; slice_count <= 2; slice_count++) {
        struct record *server, *client;
        connect_pair(f, &server, &client);
        rb_transport_credit(f->client.t, client->id, false);
        struct rb_slice halves[2] = { rb_slice_of(f->pattern, PATTERN_BYTES / 2),
                                      rb_slice_of(f->pattern, PATTERN_BYTES / 2) };
        send_slices(&f->server, server, halves, slice_count);
        pump_quiet(f);
        assert_true(server->sending);
        ask_close(&f->server, server);
        PUMP_UNTIL(f, closed(server)); /* record_event saw SENT first */
        assert_int_equal(server->count[RB_EVENT_SENT], 1);
        assert_int_not_equal(server->sent_err, RB_OK);
        ask_close(&f->client, client);
        PUMP_UNTIL(f, closed(client));
    }
}

/* "-ERR ..." and close, while the client is in the middle of a payload. The client must see an end,
 * not a break: a client whose write breaks may never read what it was told. */
static void last_words_arrive_while_the_peer_still_sends(void **state)
{
    struct fixture *f = *state;
    struct record *server, *client;
    connect_pair(f, &server, &client);
    rb_transport_credit(f->server.t, server->id, false);
    send_bytes(&f->client, client, rb_slice_of(f->pattern, 3 << 20));
    pump_quiet(f);
    send_bytes(&f->server, server, RB_S("-ERR 'Maximum Payload Violation'\r\n"));
    PUMP_UNTIL(f, server->count[RB_EVENT_SENT] == 1);
    ask_close(&f->server, server);
    PUMP_UNTIL(f, client->count[RB_EVENT_FAILED] == 1);
    struct rb_slice words = RB_S("-ERR 'Maximum Payload Violation'\r\n");
    assert_int_equal(client->received_bytes, words.len);
    assert_memory_equal(client->begin, words.ptr, words.len);
    assert_int_equal(client->failed_err, RB_OK);
    PUMP_UNTIL(f, !client->sending);
    assert_int_equal(client->sent_err, RB_OK);
    ask_close(&f->client, client);
    PUMP_UNTIL(f, closed(server) && closed(client));
}

static void without_credit_nothing_more_is_received(void **state)
{
    struct fixture *f = *state;
    struct record *server, *client;
    connect_pair(f, &server, &client);
    send_bytes(&f->client, client, rb_slice_of(f->pattern, PATTERN_BYTES));
    PUMP_UNTIL(f, server->received_bytes > 0);
    rb_transport_credit(f->server.t, server->id, false);
    pump_quiet(f);
    uint64_t taken_bytes = server->received_bytes;
    assert_true(taken_bytes < PATTERN_BYTES);
    pump_quiet(f);
    assert_int_equal(server->received_bytes, taken_bytes);
    rb_transport_credit(f->server.t, server->id, true);
    rb_transport_credit(f->server.t, server->id, false);
    rb_transport_credit(f->server.t, server->id, true);
    PUMP_UNTIL(f, server->received_bytes == PATTERN_BYTES && !client->sending);
    assert_int_equal(server->wrong_bytes, 0);
    close_both(f, server, client);
}

static void credit_withdrawn_before_the_first_byte_holds(void **state)
{
    struct fixture *f = *state;
    struct record *server, *client;
    connect_pair(f, &server, &client);
    rb_transport_credit(f->server.t, server->id, false);
    pump_quiet(f);
    send_bytes(&f->client, client, rb_slice_of(f->pattern, 100));
    pump_quiet(f);
    assert_int_equal(server->received_bytes, 0);
    rb_transport_credit(f->server.t, server->id, true);
    PUMP_UNTIL(f, server->received_bytes == 100);
    close_both(f, server, client);
}

static void connecting_to_nobody_fails_and_closes(void **state)
{
    struct fixture *f = *state;
    rb_transport_unlisten(f->server.t, f->listener);
    pump_quiet(f);
    struct record *client = connect_only(f, &f->bound);
    PUMP_UNTIL(f, client->count[RB_EVENT_FAILED] == 1);
    assert_int_not_equal(client->failed_err, RB_OK);
    assert_int_equal(client->count[RB_EVENT_CONNECTED], 0);
    ask_close(&f->client, client);
    PUMP_UNTIL(f, closed(client));
}

static void connections_outlive_their_listener(void **state)
{
    struct fixture *f = *state;
    struct record *server, *client;
    connect_pair(f, &server, &client);
    rb_transport_unlisten(f->server.t, f->listener);
    pump_quiet(f);
    send_bytes(&f->client, client, rb_slice_of(f->pattern, 300));
    PUMP_UNTIL(f, server->received_bytes == 300);
    struct rb_listen_options again = { .addr = f->bound, .backlog = 16 };
    assert_int_equal(rb_transport_listen(f->server.t, &again, &f->listener, &f->bound), RB_OK);
    struct record *next_server, *next_client;
    connect_pair(f, &next_server, &next_client);
    close_both(f, next_server, next_client);
    close_both(f, server, client);
}

static void a_taken_address_is_refused(void **state)
{
    struct fixture *f = *state;
    struct rb_listen_options same = { .addr = f->bound, .backlog = 16 };
    struct rb_addr bound;
    uint32_t listener;
    assert_int_equal(rb_transport_listen(f->server.t, &same, &listener, &bound), RB_ERR_IN_USE);
}

static void closing_while_connecting_ends_both(void **state)
{
    struct fixture *f = *state;
    struct record *client = connect_only(f, &f->bound);
    ask_close(&f->client, client);
    PUMP_UNTIL(f, closed(client));
    assert_int_equal(client->count[RB_EVENT_CONNECTED] + client->count[RB_EVENT_FAILED], 1);
    pump_quiet(f);
    for (uint32_t i = 0; i < f->server.record_count; i++) {
        assert_int_equal(f->server.records[i].count[RB_EVENT_FAILED], 1);
        ask_close(&f->server, &f->server.records[i]);
        PUMP_UNTIL(f, closed(&f->server.records[i]));
    }
}

static void events_carry_what_set_user_gave(void **state)
{
    struct fixture *f = *state;
    struct record *server, *client;
    connect_pair(f, &server, &client);
    server->user = f; /* record_event compares */
    rb_transport_set_user(f->server.t, server->id, f);
    send_bytes(&f->client, client, rb_slice_of(f->pattern, 10));
    send_bytes(&f->server, server, rb_slice_of(f->pattern, 10));
    PUMP_UNTIL(f, server->received_bytes == 10 && !server->sending);
    server->user = server;
    rb_transport_set_user(f->server.t, server->id, server);
    close_both(f, server, client);
}

static void many_connections_do_not_mix(void **state)
{
    struct fixture *f = *state;
    enum { COUNT = 60 };
    for (uint32_t i = 0; i < COUNT; i++) {
        connect_only(f, &f->bound);
    }
    for (uint32_t i = 0; i < COUNT; i++) {
        struct record *client = &f->client.records[i];
        PUMP_UNTIL(f, client->count[RB_EVENT_CONNECTED] == 1);
        send_bytes(&f->client, client, rb_slice_of(f->pattern, 20000 + i));
    }
    PUMP_UNTIL(f, f->server.record_count == COUNT);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < COUNT; i++) {
        struct record *server = &f->server.records[i];
        PUMP_UNTIL(f, server->received_bytes >= 20000);
        pump(f);
        sum += server->received_bytes;
        assert_int_equal(server->wrong_bytes, 0);
    }
    assert_int_equal(sum, COUNT * 20000 + COUNT * (COUNT - 1) / 2);
    for (uint32_t i = 0; i < COUNT; i++) {
        ask_close(&f->client, &f->client.records[i]);
        ask_close(&f->server, &f->server.records[i]);
    }
    for (uint32_t i = 0; i < COUNT; i++) {
        PUMP_UNTIL(f, closed(&f->client.records[i]) && closed(&f->server.records[i]));
    }
}

static void destroy_ends_what_is_open(void **state)
{
    struct fixture *f = *state;
    struct record *server, *client;
    connect_pair(f, &server, &client);
    rb_transport_credit(f->client.t, client->id, false);
    send_bytes(&f->server, server, rb_slice_of(f->pattern, PATTERN_BYTES));
    pump_quiet(f);
    assert_true(server->sending);
    connect_only(f, &f->bound); /* the teardown destroys all of it */
}

/* ---- fixture ---- */

static const struct suite_driver *running;

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    f->driver = running;
    f->pattern = malloc(PATTERN_BYTES);
    assert_non_null(f->pattern);
    for (size_t i = 0; i < PATTERN_BYTES; i++) {
        f->pattern[i] = byte_at(i);
    }
    running->open(&f->world);
    f->server.t = f->world.server;
    f->client.t = f->world.client;
    struct rb_listen_options options = { .addr = f->world.listen_addr, .backlog = 128 };
    assert_int_equal(rb_transport_listen(f->server.t, &options, &f->listener, &f->bound), RB_OK);
    assert_int_not_equal(f->bound.port, 0);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    f->driver->shut(&f->world);
    free(f->pattern);
    free(f);
    return 0;
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int suite_run(const struct suite_driver *driver)
{
    const struct CMUnitTest cases[] = {
        CASE(connecting_gives_one_event_at_each_end),
        CASE(bytes_arrive_whole_and_in_order_both_ways),
        CASE(one_long_send_arrives_whole),
        CASE(a_send_of_nothing_is_sent),
        CASE(a_second_send_is_refused_until_sent),
        CASE(after_closed_the_id_is_stale),
        CASE(the_end_of_the_peer_is_told_once),
        CASE(a_send_cut_by_close_is_told_before_closed),
        CASE(last_words_arrive_while_the_peer_still_sends),
        CASE(without_credit_nothing_more_is_received),
        CASE(credit_withdrawn_before_the_first_byte_holds),
        CASE(connecting_to_nobody_fails_and_closes),
        CASE(connections_outlive_their_listener),
        CASE(a_taken_address_is_refused),
        CASE(closing_while_connecting_ends_both),
        CASE(events_carry_what_set_user_gave),
        CASE(many_connections_do_not_mix),
        CASE(destroy_ends_what_is_open),
    };
    running = driver;
    return cmocka_run_group_tests_name(driver->name, cases, NULL, NULL);
}
