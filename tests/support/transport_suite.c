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

#include <sys/resource.h>

#include "ringbus/bounds.h"
#include "ringbus/check.h"
#include "ringbus/env.h"

#define RECORDS_MAX 4096
#define SLOTS_MAX 4096
#define ROUNDS_MAX 20000
#define QUIET_ROUNDS 60
#define KIND_COUNT (RB_EVENT_ACCEPT_FAILED + 1)

struct record {
    struct rb_conn_id id;
    uint32_t count[KIND_COUNT];
    enum rb_err sent_err, failed_err;
    bool sending, closing; /* what we asked for */
    uint32_t send_count;   /* accepted calls */
    uint64_t given_bytes;  /* to send_next() */
    uint64_t received_bytes;
    uint64_t wrong_bytes; /* that do not follow the pattern */
    uint8_t begin[64];    /* the first of them */
    void *user;
    struct rb_addr peer, local;
};

struct side {
    struct rb_transport *t;
    struct record records[RECORDS_MAX];
    struct record *by_slot[SLOTS_MAX]; /* the newest of each slot number */
    uint32_t record_count;
    uint32_t accept_failed_count;
};

struct fixture {
    const struct suite_driver *driver;
    struct suite_world world;
    struct side server, client;
    uint32_t listener;
    struct rb_addr bound;
    const uint8_t *pattern; /* PATTERN_BYTES of what byte_at() says */
};

/* ThreadSanitizer looks at each byte: there the same cases run with less of them. */
#ifdef __SANITIZE_THREAD__
#define LONGEST_BYTES ((size_t)8 << 20)
#else
#define LONGEST_BYTES ((size_t)64 << 20)
#endif
#define PATTERN_BYTES (LONGEST_BYTES / 2)
#define PERIOD_BYTES (LONGEST_BYTES / 4) /* of byte_at() */
#define STUCK_BYTES ((size_t)16 << 20)   /* more than the buffers of both sockets hold */

static uint8_t byte_at(uint64_t offset)
{
    offset %= PERIOD_BYTES;
    return (uint8_t)(offset ^ offset >> 8 ^ offset >> 16);
}

static uint8_t *pattern; /* one for all cases */

/* At most PERIOD_BYTES of the stream from `offset` on. */
static struct rb_slice pattern_at(uint64_t offset, size_t len)
{
    assert_true(len <= PERIOD_BYTES);
    return rb_slice_of(pattern + offset % PERIOD_BYTES, len);
}

static uint32_t place_of(struct rb_conn_id id)
{
    uint32_t place = id.slot & 0xFFFFFFF; /* a mux uses the bits above */
    assert_true(place < SLOTS_MAX);
    return place;
}

/* Also of a connection that is closed, until its slot is used again. */
static struct record *find_record(struct side *side, struct rb_conn_id id)
{
    struct record *record = side->by_slot[place_of(id)];
    return record != NULL && rb_conn_id_equal(record->id, id) ? record : NULL;
}

static struct record *add_record(struct side *side, struct rb_conn_id id)
{
    assert_true(side->record_count < RECORDS_MAX);
    assert_int_not_equal(id.generation, 0);
    assert_null(find_record(side, id));
    struct record *before = side->by_slot[place_of(id)];
    assert_true(before == NULL || before->count[RB_EVENT_CLOSED] == 1);
    struct record *record = &side->records[side->record_count++];
    *record = (struct record){ .id = id };
    side->by_slot[place_of(id)] = record;
    return record;
}

static void record_bytes(struct record *record, struct rb_slice bytes)
{
    assert_true(bytes.len > 0 && bytes.len <= PERIOD_BYTES);
    uint64_t offset = record->received_bytes;
    bool right = memcmp(bytes.ptr, pattern_at(offset, bytes.len).ptr, bytes.len) == 0;
    for (size_t i = 0; i < bytes.len && !right; i++) {
        record->wrong_bytes += bytes.ptr[i] != byte_at(offset + i);
    }
    if (offset < sizeof(record->begin)) {
        size_t room = sizeof(record->begin) - offset;
        memcpy(record->begin + offset, bytes.ptr, bytes.len < room ? bytes.len : room);
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
        assert_int_equal(record->count[RB_EVENT_SENT], record->send_count);
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
    record->send_count++;
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
    if ((f->driver->without & SUITE_NO_LISTENERS) == 0) {
        assert_int_equal(client->peer.port, f->bound.port);
        assert_int_equal(server->local.port, f->bound.port);
        assert_int_equal(server->peer.port, client->local.port);
    }
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
    uint8_t *much = calloc(1, STUCK_BYTES);
    assert_non_null(much);
    for (uint32_t slice_count = 1; slice_count <= 2; slice_count++) {
        struct record *server, *client;
        connect_pair(f, &server, &client);
        rb_transport_credit(f->client.t, client->id, false);
        struct rb_slice halves[2] = { rb_slice_of(much, STUCK_BYTES),
                                      rb_slice_of(much, STUCK_BYTES) };
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
    free(much);
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
    bool drains = (f->driver->without & SUITE_NO_DRAIN) == 0;
    assert_int_equal(client->sent_err, drains ? RB_OK : RB_ERR_RESET);
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

/* ---- many of everything ---- */

/* The next `len` bytes of the stream in `slice_count` slices of uneven length. */
static void send_next(struct side *side, struct record *record, size_t len, uint32_t slice_count)
{
    struct rb_slice slices[RB_SEND_SLICES_MAX];
    size_t given = 0;
    for (uint32_t i = 0; i < slice_count; i++) {
        size_t part = len / slice_count + (i % 2 == 0 ? i : 0);
        part = i + 1 == slice_count || part > len - given ? len - given : part;
        slices[i] = pattern_at(record->given_bytes + given, part);
        given += part;
    }
    send_slices(side, record, slices, slice_count);
    record->given_bytes += len;
}

static void gathered_sends_of_many_sizes_arrive(void **state)
{
    static const size_t sizes[] = { 1,
                                    2,
                                    63,
                                    4095,
                                    4096,
                                    4097,
                                    32767,
                                    32768,
                                    65536,
                                    65537,
                                    200000,
                                    (1 << 20) + 3,
                                    0,
                                    1,
                                    LONGEST_BYTES / 7,
                                    LONGEST_BYTES / 4,
                                    LONGEST_BYTES };
    static const uint32_t counts[] = { 1, 2, 7, 8, 9, 63, 64 };
    struct fixture *f = *state;
    struct record *server, *client;
    connect_pair(f, &server, &client);
    for (uint32_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        for (uint32_t j = 0; j < 2; j++) {
            uint32_t count = counts[(i + j * 3) % 7];
            count = sizes[i] > PERIOD_BYTES ? RB_SEND_SLICES_MAX : count;
            if (sizes[i] > PERIOD_BYTES && j > 0) {
                break; /* once is enough of the longest */
            }
            struct side *side = (i + j) % 2 == 0 ? &f->server : &f->client;
            struct record *record = (i + j) % 2 == 0 ? server : client;
            send_next(side, record, sizes[i], count);
            PUMP_UNTIL(f, !record->sending);
            assert_int_equal(record->sent_err, RB_OK);
        }
    }
    PUMP_UNTIL(f, server->received_bytes == client->given_bytes &&
                      client->received_bytes == server->given_bytes);
    assert_int_equal(server->wrong_bytes + client->wrong_bytes, 0);
    close_both(f, server, client);
}

/* Nobody reads, both send: both are held. Then one reads, and only the other goes on. */
static void back_pressure_holds_either_way(void **state)
{
    struct fixture *f = *state;
    struct record *server, *client;
    connect_pair(f, &server, &client);
    rb_transport_credit(f->server.t, server->id, false);
    rb_transport_credit(f->client.t, client->id, false);
    pump_quiet(f);
    send_next(&f->server, server, PATTERN_BYTES, 64);
    send_next(&f->client, client, PATTERN_BYTES, 3);
    pump_quiet(f);
    assert_true(server->sending && client->sending);
    assert_int_equal(server->received_bytes + client->received_bytes, 0);
    rb_transport_credit(f->client.t, client->id, true);
    PUMP_UNTIL(f, client->received_bytes == PATTERN_BYTES && !server->sending);
    assert_true(client->sending);
    assert_int_equal(server->received_bytes, 0);
    rb_transport_credit(f->server.t, server->id, true);
    PUMP_UNTIL(f, server->received_bytes == PATTERN_BYTES && !client->sending);
    assert_int_equal(server->wrong_bytes + client->wrong_bytes, 0);
    close_both(f, server, client);
}

static void unknown_ids_are_stale(void **state)
{
    struct fixture *f = *state;
    struct record *server, *client;
    connect_pair(f, &server, &client);
    struct rb_slice word = RB_S("word");
    const struct rb_conn_id unknown[] = {
        { .slot = server->id.slot, .generation = 0 },
        { .slot = server->id.slot, .generation = server->id.generation + 1 },
        { .slot = server->id.slot + 1, .generation = server->id.generation },
        { .slot = 0xFFFFFFF, .generation = 1 },
        { .slot = UINT32_MAX, .generation = UINT32_MAX },
    };
    for (uint32_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
        assert_int_equal(rb_transport_send(f->server.t, unknown[i], &word, 1), RB_ERR_STALE);
        assert_int_equal(rb_transport_close(f->server.t, unknown[i]), RB_ERR_STALE);
        rb_transport_credit(f->server.t, unknown[i], false);
        rb_transport_set_user(f->server.t, unknown[i], f);
    }
    send_next(&f->client, client, 100, 1);
    PUMP_UNTIL(f, server->received_bytes == 100);
    close_both(f, server, client);
}

/* As close_both, for who is sending, from either end and for many at once. */
static void closing_amid_sends_tells_each_once(void **state)
{
    struct fixture *f = *state;
    enum { COUNT = 24 };
    struct record *servers[COUNT], *clients[COUNT];
    for (uint32_t i = 0; i < COUNT; i++) {
        connect_pair(f, &servers[i], &clients[i]);
    }
    for (uint32_t i = 0; i < COUNT; i++) {
        if (i % 3 != 2) {
            rb_transport_credit(f->client.t, clients[i]->id, false);
        }
        if (i % 3 != 1) {
            rb_transport_credit(f->server.t, servers[i]->id, false);
        }
        send_next(&f->server, servers[i], PERIOD_BYTES, 1 + i);
        send_next(&f->client, clients[i], PERIOD_BYTES, 24 - i);
    }
    for (uint32_t round = 0; round < 5; round++) {
        pump(f);
    }
    for (uint32_t i = 0; i < COUNT; i++) {
        if (i % 2 == 0) {
            ask_close(&f->server, servers[i]);
        } else {
            ask_close(&f->client, clients[i]);
        }
    }
    for (uint32_t i = 0; i < COUNT; i++) {
        PUMP_UNTIL(f, closed(i % 2 == 0 ? servers[i] : clients[i]));
        ask_close(i % 2 == 0 ? &f->client : &f->server, i % 2 == 0 ? clients[i] : servers[i]);
        PUMP_UNTIL(f, closed(servers[i]) && closed(clients[i]));
        assert_int_equal(servers[i]->count[RB_EVENT_SENT], 1);
        assert_int_equal(clients[i]->count[RB_EVENT_SENT], 1);
        assert_int_equal(servers[i]->wrong_bytes + clients[i]->wrong_bytes, 0);
    }
}

static uint32_t crowd_size(const struct suite_driver *driver)
{
    if (driver->crowd_count > 0) {
        return driver->crowd_count;
    }
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    rlim_t pairs = limit.rlim_cur > 400 ? (limit.rlim_cur - 200) / 2 : 100;
    return pairs < 2000 ? (uint32_t)pairs : 2000;
}

/* Thousands: each sends and gets a few bytes, then all end at once. */
static void a_great_crowd_is_served(void **state)
{
    struct fixture *f = *state;
    uint32_t count = crowd_size(f->driver);
    for (uint32_t i = 0; i < count; i++) {
        connect_only(f, &f->bound);
        if (i % 100 == 99 || i + 1 == count) {
            PUMP_UNTIL(f, f->server.record_count == i + 1 &&
                              f->client.records[i].count[RB_EVENT_CONNECTED] == 1);
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        PUMP_UNTIL(f, f->client.records[i].count[RB_EVENT_CONNECTED] == 1);
        send_next(&f->client, &f->client.records[i], 10 + i % 50, 1 + i % 3);
        send_next(&f->server, &f->server.records[i], 1000 + i, 1 + i % 9);
    }
    uint64_t received[2] = { 0, 0 }, given[2] = { 0, 0 };
    for (uint32_t round = 0; round == 0 || received[0] < given[0] || received[1] < given[1];
         round++) {
        assert_true(round < ROUNDS_MAX);
        pump(f);
        memset(received, 0, sizeof(received));
        memset(given, 0, sizeof(given));
        for (uint32_t i = 0; i < count; i++) {
            received[0] += f->server.records[i].received_bytes;
            received[1] += f->client.records[i].received_bytes;
            given[0] += f->client.records[i].given_bytes;
            given[1] += f->server.records[i].given_bytes;
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        struct record *server = &f->server.records[i], *client = &f->client.records[i];
        assert_int_equal(server->wrong_bytes + client->wrong_bytes, 0);
        PUMP_UNTIL(f, !server->sending && !client->sending);
        ask_close(&f->client, client);
        ask_close(&f->server, server);
    }
    for (uint32_t i = 0; i < count; i++) {
        PUMP_UNTIL(f, closed(&f->client.records[i]) && closed(&f->server.records[i]));
    }
    assert_int_equal(f->server.record_count, count);
}

/* ---- any order of calls ---- */

#define CHURN_STEPS 3000 /* or until so many connections have been: */
#define CHURN_RECORDS 800
#define CHURN_CONNS 30

static void churn_one(struct rb_env *draw, struct side *side, struct record *record)
{
    static const uint32_t scales[] = { 10, 1000, 100000, PERIOD_BYTES / 6 };
    bool broken = (record->count[RB_EVENT_FAILED] == 1 && record->failed_err != RB_OK) ||
                  (record->count[RB_EVENT_SENT] > 0 && record->sent_err != RB_OK);
    if (record->count[RB_EVENT_FAILED] == 1 && rb_env_below(draw, 2) == 0) {
        ask_close(side, record);
        return;
    }
    switch (rb_env_below(draw, 8)) {
    case 0:
        rb_transport_credit(side->t, record->id, false);
        break;
    case 1:
    case 2:
        rb_transport_credit(side->t, record->id, true);
        break;
    case 3:
        if (rb_env_below(draw, 6) == 0) {
            ask_close(side, record);
        }
        break;
    default:
        if (!record->sending && !broken) {
            size_t len = rb_env_below(draw, scales[rb_env_below(draw, 4)]);
            send_next(side, record, len, 1 + rb_env_below(draw, RB_SEND_SLICES_MAX));
        }
        break;
    }
}

static uint32_t open_count(const struct side *side)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < side->record_count; i++) {
        count += closed(&side->records[i]) ? 0 : 1;
    }
    return count;
}

static void churn_side(struct rb_env *draw, struct side *side)
{
    for (uint32_t i = 0; i < side->record_count; i++) {
        struct record *record = &side->records[i];
        bool open = record->count[RB_EVENT_ACCEPTED] + record->count[RB_EVENT_CONNECTED] == 1 &&
                    !record->closing;
        if (open && rb_env_below(draw, 4) == 0) {
            churn_one(draw, side, record);
        }
    }
}

static void end_side(struct side *side)
{
    for (uint32_t i = 0; i < side->record_count; i++) {
        if (!side->records[i].closing) {
            ask_close(side, &side->records[i]);
        }
        assert_int_equal(side->records[i].wrong_bytes, 0);
    }
}

/* record_event() checks the rules, whatever happens in whatever order. */
static void any_order_of_calls_keeps_the_contract(void **state)
{
    struct fixture *f = *state;
    struct rb_env draw = { 0 };
    rb_env_seed(&draw, 20240607);
    for (uint32_t step = 0; step < CHURN_STEPS && f->client.record_count < CHURN_RECORDS; step++) {
        if (open_count(&f->client) < CHURN_CONNS) {
            struct record *client = connect_only(f, &f->bound);
            if (rb_env_below(&draw, 50) == 0) {
                ask_close(&f->client, client); /* while it connects */
            }
        }
        churn_side(&draw, &f->server);
        churn_side(&draw, &f->client);
        pump(f);
    }
    for (uint32_t round = 0; round < QUIET_ROUNDS; round++) {
        end_side(&f->server);
        end_side(&f->client);
        pump(f); /* some were on their way to the server */
    }
    PUMP_UNTIL(f, open_count(&f->server) == 0 && open_count(&f->client) == 0);
    assert_true(f->server.record_count > CHURN_CONNS);
}

/* ---- fixture ---- */

static const struct suite_driver *running;

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    f->driver = running;
    f->pattern = pattern;
    running->open(&f->world);
    f->server.t = f->world.server;
    f->client.t = f->world.client;
    struct rb_listen_options options = { .addr = f->world.listen_addr, .backlog = 128 };
    if ((running->without & SUITE_NO_LISTENERS) == 0) {
        assert_int_equal(rb_transport_listen(f->server.t, &options, &f->listener, &f->bound),
                         RB_OK);
        assert_int_not_equal(f->bound.port, 0);
    }
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    f->driver->shut(&f->world);
    free(f);
    return 0;
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

/* With listeners first: drivers without them run the rest. */
static const struct CMUnitTest all_cases[] = {
    CASE(connecting_to_nobody_fails_and_closes),
    CASE(connections_outlive_their_listener),
    CASE(a_taken_address_is_refused),
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
    CASE(closing_while_connecting_ends_both),
    CASE(events_carry_what_set_user_gave),
    CASE(many_connections_do_not_mix),
    CASE(gathered_sends_of_many_sizes_arrive),
    CASE(back_pressure_holds_either_way),
    CASE(unknown_ids_are_stale),
    CASE(closing_amid_sends_tells_each_once),
    CASE(a_great_crowd_is_served),
    CASE(any_order_of_calls_keeps_the_contract),
    CASE(destroy_ends_what_is_open),
};
#define CASE_COUNT (sizeof(all_cases) / sizeof(all_cases[0]))
#define LISTENER_CASE_COUNT 3

int suite_run(const struct suite_driver *driver)
{
    running = driver;
    pattern = malloc(PATTERN_BYTES);
    rb_assert(pattern != NULL);
    for (size_t i = 0; i < PATTERN_BYTES; i++) {
        pattern[i] = byte_at(i);
    }
    size_t first = (driver->without & SUITE_NO_LISTENERS) != 0 ? LISTENER_CASE_COUNT : 0;
    int failed_count =
        _cmocka_run_group_tests(driver->name, all_cases + first, CASE_COUNT - first, NULL, NULL);
    free(pattern);
    return failed_count;
}
