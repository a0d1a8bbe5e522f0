/* test_sim_net.c - the simulated network keeps the contract of transport.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ringbus/bounds.h"
#include "transport/sim/sim.h"

#define PORT 4222
#define MS 1000000ull

/** What came out of a transport, in order. */
struct seen {
    struct rb_event events[4096];
    uint32_t count;
    uint8_t bytes[1 << 20]; /* of RECEIVED, all connections together */
    size_t len;
};

struct fixture {
    struct rb_sim_net *net;
    struct rb_budget budget;
    struct rb_transport *t[4];
    uint32_t count, listener;
    struct seen seen;
};

static const struct rb_sim_net_options calm = {
    .seed = 1, .delay_min_ns = MS, .delay_max_ns = MS, .window_bytes = 65536, .recv_bytes_max = 4096
};

static struct fixture *open_net(const struct rb_sim_net_options *options, uint32_t count)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    assert_int_equal(rb_sim_net_create(options, &f->net), RB_OK);
    f->count = count;
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(rb_sim_transport_create(f->net, 0, i, &f->budget, &f->t[i]), RB_OK);
    }
    struct rb_listen_options listen = { .addr = { .port = PORT }, .backlog = 16, .spread = true };
    struct rb_addr bound;
    assert_int_equal(rb_transport_listen(f->t[0], &listen, &f->listener, &bound), RB_OK);
    assert_int_equal(bound.port, PORT);
    return f;
}

static void close_net(struct fixture *f)
{
    for (uint32_t i = 0; i < f->count; i++) {
        rb_transport_destroy(f->t[i]);
    }
    assert_int_equal(f->budget.used_bytes, 0);
    rb_sim_net_destroy(f->net);
    free(f);
}

/** One batch; the bytes are kept because they are only borrowed. */
static uint32_t poll_once(struct fixture *f, uint32_t index)
{
    struct rb_event *events;
    uint32_t count = rb_transport_poll(f->t[index], -1, &events);
    struct seen *seen = &f->seen;
    for (uint32_t i = 0; i < count; i++) {
        assert_true(seen->count < sizeof(seen->events) / sizeof(seen->events[0]));
        seen->events[seen->count++] = events[i];
        if (events[i].kind == RB_EVENT_RECEIVED) {
            assert_true(events[i].bytes.len > 0);
            assert_true(seen->len + events[i].bytes.len <= sizeof(seen->bytes));
            memcpy(seen->bytes + seen->len, events[i].bytes.ptr, events[i].bytes.len);
            seen->len += events[i].bytes.len;
        }
    }
    return count;
}

/** Until nothing moves; peers do not read meanwhile. */
static void settle(struct fixture *f)
{
    for (;;) {
        uint32_t count = 0;
        for (uint32_t i = 0; i < f->count; i++) {
            count += poll_once(f, i);
        }
        if (count == 0) {
            uint64_t due = rb_sim_net_due(f->net);
            if (due == UINT64_MAX) {
                return;
            }
            rb_sim_net_advance(f->net, due - rb_sim_net_now(f->net));
        }
    }
}

static uint32_t count_kind(const struct fixture *f, enum rb_event_kind kind)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < f->seen.count; i++) {
        count += f->seen.events[i].kind == kind;
    }
    return count;
}

static const struct rb_event *last_event(const struct fixture *f)
{
    assert_true(f->seen.count > 0);
    return &f->seen.events[f->seen.count - 1];
}

static struct rb_sim_peer *dial(struct fixture *f, struct rb_conn_id *ret_conn)
{
    struct rb_sim_peer *peer;
    assert_int_equal(rb_sim_peer_connect(f->net, 0, PORT, &peer), RB_OK);
    settle(f);
    assert_int_equal(last_event(f)->kind, RB_EVENT_ACCEPTED);
    assert_int_equal(last_event(f)->listener, f->listener);
    assert_null(last_event(f)->user);
    *ret_conn = last_event(f)->conn;
    return peer;
}

static void ports_are_taken_and_given_back(void **state)
{
    (void)state;
    struct fixture *f = open_net(&calm, 1);
    struct rb_listen_options listen = { .addr = { .port = PORT } };
    struct rb_addr bound;
    uint32_t other;
    struct rb_sim_peer *peer;
    assert_int_equal(rb_transport_listen(f->t[0], &listen, &other, &bound), RB_ERR_IN_USE);
    listen.addr.port = 0;
    assert_int_equal(rb_transport_listen(f->t[0], &listen, &other, &bound), RB_OK);
    assert_true(bound.port != 0 && bound.port != PORT);
    assert_int_equal(rb_sim_peer_connect(f->net, 0, bound.port, &peer), RB_OK);
    rb_sim_peer_close(peer, true);
    rb_transport_unlisten(f->t[0], other);
    assert_int_equal(rb_sim_peer_connect(f->net, 0, bound.port, &peer), RB_ERR_ADDRESS);
    assert_int_equal(rb_sim_peer_connect(f->net, 1, PORT, &peer), RB_ERR_ADDRESS);
    close_net(f);
}

static void bytes_go_both_ways_after_the_delay(void **state)
{
    (void)state;
    struct fixture *f = open_net(&calm, 1);
    struct rb_conn_id conn;
    struct rb_sim_peer *peer = dial(f, &conn);
    uint8_t got[64];
    int mark;
    rb_transport_set_user(f->t[0], conn, &mark);
    rb_sim_peer_send(peer, RB_S("hello"));
    assert_false(rb_sim_transport_ready(f->t[0]));
    assert_int_equal(poll_once(f, 0), 0);
    uint64_t begin = rb_sim_net_now(f->net);
    assert_int_equal(rb_sim_net_advance(f->net, MS / 4), begin + MS / 4);
    assert_int_equal(rb_sim_net_advance(f->net, 100 * MS), begin + MS);
    assert_true(rb_sim_transport_ready(f->t[0]));
    assert_int_equal(poll_once(f, 0), 1);
    assert_int_equal(last_event(f)->kind, RB_EVENT_RECEIVED);
    assert_ptr_equal(last_event(f)->user, &mark);
    assert_int_equal(f->seen.len, 5);
    assert_memory_equal(f->seen.bytes, "hello", 5);

    struct rb_slice slices[3] = { RB_S("one "), RB_S(""), RB_S("two") };
    assert_int_equal(rb_transport_send(f->t[0], conn, slices, 3), RB_OK);
    assert_true(rb_sim_transport_ready(f->t[0]));
    assert_int_equal(rb_transport_send(f->t[0], conn, slices, 1), RB_ERR_BUSY);
    settle(f);
    assert_int_equal(count_kind(f, RB_EVENT_SENT), 1);
    assert_int_equal(last_event(f)->err, RB_OK);
    assert_int_equal(rb_sim_peer_recv(peer, got, 3), 3);
    assert_int_equal(rb_sim_peer_recv(peer, got + 3, sizeof(got)), 4);
    assert_memory_equal(got, "one two", 7);
    assert_int_equal(rb_sim_peer_recv(peer, got, sizeof(got)), 0);
    rb_sim_peer_close(peer, true);
    close_net(f);
}

static void close_ends_the_send_first(void **state)
{
    (void)state;
    struct rb_sim_net_options options = calm;
    options.window_bytes = 4;
    struct fixture *f = open_net(&options, 1);
    struct rb_conn_id conn;
    struct rb_sim_peer *peer = dial(f, &conn);
    struct rb_slice slice = RB_S("longer than the window");
    uint8_t got[64];
    assert_int_equal(rb_transport_send(f->t[0], conn, &slice, 1), RB_OK);
    settle(f);
    assert_int_equal(count_kind(f, RB_EVENT_SENT), 0); /* nobody reads */
    assert_int_equal(rb_transport_close(f->t[0], conn), RB_OK);
    assert_int_equal(rb_transport_close(f->t[0], conn), RB_ERR_STALE);
    assert_int_equal(rb_transport_send(f->t[0], conn, &slice, 1), RB_ERR_STALE);
    assert_false(rb_sim_peer_ended(peer));
    settle(f);
    assert_int_equal(count_kind(f, RB_EVENT_SENT), 1);
    assert_int_equal(f->seen.events[f->seen.count - 2].kind, RB_EVENT_SENT);
    assert_int_equal(f->seen.events[f->seen.count - 2].err, RB_ERR_CANCELED);
    assert_int_equal(last_event(f)->kind, RB_EVENT_CLOSED);
    assert_int_equal(rb_sim_transport_conn_count(f->t[0]), 0);
    assert_false(rb_sim_peer_ended(peer)); /* what was taken is to be read first */
    assert_int_equal(rb_sim_peer_recv(peer, got, sizeof(got)), 4);
    assert_true(rb_sim_peer_ended(peer));
    assert_false(rb_sim_peer_broken(peer));
    assert_int_equal(rb_transport_close(f->t[0], conn), RB_ERR_STALE);
    rb_sim_peer_close(peer, false);

    struct rb_conn_id next;
    peer = dial(f, &next);
    assert_int_equal(next.slot, conn.slot);
    assert_int_not_equal(next.generation, conn.generation);
    rb_sim_peer_close(peer, false);
    close_net(f);
}

static void a_stalled_peer_fills_the_window(void **state)
{
    (void)state;
    struct rb_sim_net_options options = calm;
    options.window_bytes = 1000;
    struct fixture *f = open_net(&options, 1);
    struct rb_conn_id conn;
    struct rb_sim_peer *peer = dial(f, &conn);
    uint8_t out[2500], got[2500];
    memset(out, 'x', sizeof(out));
    struct rb_slice slice = rb_slice_of(out, sizeof(out));
    rb_sim_peer_stall(peer, true);
    assert_int_equal(rb_transport_send(f->t[0], conn, &slice, 1), RB_OK);
    settle(f);
    assert_int_equal(rb_sim_peer_recv(peer, got, sizeof(got)), 0);
    rb_sim_peer_stall(peer, false);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(count_kind(f, RB_EVENT_SENT), 0);
        assert_int_equal(rb_sim_peer_recv(peer, got, sizeof(got)), 1000);
        settle(f);
    }
    assert_int_equal(count_kind(f, RB_EVENT_SENT), 1); /* the rest is in the window */
    memset(out, 'y', sizeof(out));                     /* ours again */
    assert_int_equal(rb_sim_peer_recv(peer, got, sizeof(got)), 500);
    assert_int_equal(got[0], 'x');
    assert_int_equal(got[499], 'x');
    rb_sim_peer_close(peer, true);
    close_net(f);
}

static void withdrawn_credit_stops_receiving(void **state)
{
    (void)state;
    struct rb_sim_net_options options = calm;
    options.recv_bytes_max = 1;
    for (options.seed = 1; options.seed < 20; options.seed++) {
        struct fixture *f = open_net(&options, 1);
        struct rb_conn_id conn;
        struct rb_sim_peer *peer = dial(f, &conn);
        rb_transport_credit(f->t[0], conn, false);
        rb_sim_peer_send(peer, RB_S("0123456789"));
        rb_sim_peer_close(peer, false);
        settle(f);
        assert_true(f->seen.len <= 2);
        assert_int_equal(count_kind(f, RB_EVENT_FAILED), 0);
        rb_transport_credit(f->t[0], conn, true);
        settle(f);
        assert_int_equal(f->seen.len, 10);
        assert_memory_equal(f->seen.bytes, "0123456789", 10);
        assert_int_equal(last_event(f)->kind, RB_EVENT_FAILED);
        close_net(f);
    }
}

static void an_orderly_end_lets_sends_work(void **state)
{
    (void)state;
    struct fixture *f = open_net(&calm, 1);
    struct rb_conn_id conn;
    struct rb_sim_peer *peer = dial(f, &conn);
    struct rb_slice slice = RB_S("too late");
    rb_sim_peer_send(peer, RB_S("bye"));
    rb_sim_peer_close(peer, false);
    settle(f);
    assert_int_equal(f->seen.len, 3);
    assert_int_equal(last_event(f)->kind, RB_EVENT_FAILED);
    assert_int_equal(last_event(f)->err, RB_OK);
    assert_int_equal(rb_transport_send(f->t[0], conn, &slice, 1), RB_OK);
    settle(f);
    assert_int_equal(last_event(f)->kind, RB_EVENT_SENT);
    assert_int_equal(count_kind(f, RB_EVENT_FAILED), 1);
    assert_int_equal(rb_transport_close(f->t[0], conn), RB_OK);
    settle(f);
    assert_int_equal(last_event(f)->kind, RB_EVENT_CLOSED);
    assert_int_equal(rb_sim_transport_conn_count(f->t[0]), 0);
    close_net(f);
}

static void a_reset_fails_the_connection_once(void **state)
{
    (void)state;
    struct rb_sim_net_options options = calm;
    options.window_bytes = 4;
    struct fixture *f = open_net(&options, 1);
    struct rb_conn_id conn;
    struct rb_sim_peer *peer = dial(f, &conn);
    struct rb_slice slice = RB_S("in flight");
    assert_int_equal(rb_transport_send(f->t[0], conn, &slice, 1), RB_OK);
    settle(f);
    rb_sim_peer_close(peer, true);
    settle(f);
    assert_int_equal(count_kind(f, RB_EVENT_SENT), 1);
    assert_int_equal(count_kind(f, RB_EVENT_FAILED), 1);
    assert_int_equal(last_event(f)->kind, RB_EVENT_FAILED);
    assert_int_equal(last_event(f)->err, RB_ERR_RESET);
    assert_int_equal(rb_transport_send(f->t[0], conn, &slice, 1), RB_ERR_RESET);
    assert_int_equal(rb_transport_close(f->t[0], conn), RB_OK);
    settle(f);
    assert_int_equal(last_event(f)->kind, RB_EVENT_CLOSED);
    close_net(f);
}

static void a_failed_send_shows_the_reset_without_credit(void **state)
{
    (void)state;
    struct fixture *f = open_net(&calm, 1);
    struct rb_conn_id conn;
    struct rb_sim_peer *peer = dial(f, &conn);
    struct rb_slice slice = RB_S("anybody there?");
    rb_transport_credit(f->t[0], conn, false);
    rb_sim_peer_close(peer, true);
    settle(f);
    assert_int_equal(count_kind(f, RB_EVENT_FAILED), 0); /* nobody reads: nobody sees */
    assert_int_equal(rb_transport_send(f->t[0], conn, &slice, 1), RB_OK);
    settle(f);
    assert_int_equal(f->seen.events[f->seen.count - 2].kind, RB_EVENT_SENT);
    assert_int_equal(f->seen.events[f->seen.count - 2].err, RB_ERR_RESET);
    assert_int_equal(last_event(f)->kind, RB_EVENT_FAILED);
    close_net(f);
}

static void faults_break_both_ends(void **state)
{
    (void)state;
    struct rb_sim_net_options options = calm;
    options.reset_permille = 1000;
    struct fixture *f = open_net(&options, 1);
    struct rb_conn_id conn;
    struct rb_sim_peer *peer = dial(f, &conn);
    uint8_t got[8];
    rb_sim_peer_send(peer, RB_S("x"));
    settle(f);
    assert_int_equal(last_event(f)->kind, RB_EVENT_FAILED);
    assert_int_equal(last_event(f)->err, RB_ERR_RESET);
    assert_true(rb_sim_peer_broken(peer));
    assert_int_equal(rb_sim_peer_recv(peer, got, sizeof(got)), 0);
    assert_true(rb_sim_peer_ended(peer));
    rb_sim_peer_close(peer, false);
    close_net(f);
}

static void spread_deals_in_turn(void **state)
{
    (void)state;
    struct fixture *f = open_net(&calm, 3);
    struct rb_sim_peer *peers[9];
    for (int i = 0; i < 9; i++) {
        assert_int_equal(rb_sim_peer_connect(f->net, 0, PORT, &peers[i]), RB_OK);
    }
    settle(f);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(rb_sim_transport_conn_count(f->t[i]), 3);
    }
    for (int i = 0; i < 9; i++) {
        rb_sim_peer_close(peers[i], i % 2 == 0);
    }
    close_net(f);
}

static void wake_is_seen_once(void **state)
{
    (void)state;
    struct fixture *f = open_net(&calm, 2);
    assert_false(rb_sim_transport_woken(f->t[1]));
    rb_transport_wake(f->t[0], 1);
    assert_false(rb_sim_transport_woken(f->t[0]));
    assert_true(rb_sim_transport_woken(f->t[1]));
    assert_false(rb_sim_transport_woken(f->t[1]));
    close_net(f);
}

static void refused_memory_refuses_the_connection(void **state)
{
    (void)state;
    struct fixture *f = open_net(&calm, 1);
    struct rb_sim_peer *peer;
    f->budget.limit_bytes = 1;
    assert_int_equal(rb_sim_peer_connect(f->net, 0, PORT, &peer), RB_OK);
    settle(f);
    assert_int_equal(f->seen.count, 1);
    assert_int_equal(last_event(f)->kind, RB_EVENT_ACCEPT_FAILED);
    assert_int_equal(last_event(f)->err, RB_ERR_MEMORY);
    assert_int_equal(last_event(f)->listener, f->listener);
    assert_true(rb_sim_peer_ended(peer));
    rb_sim_peer_close(peer, false);
    f->budget.limit_bytes = 0;
    close_net(f);
}

static void nodes_connect_to_each_other(void **state)
{
    (void)state;
    struct fixture *f = open_net(&calm, 1);
    assert_int_equal(rb_sim_transport_create(f->net, 1, 0, &f->budget, &f->t[1]), RB_OK);
    f->count = 2;
    struct rb_addr there = rb_sim_addr(0, PORT), nowhere = rb_sim_addr(0, PORT + 1);
    struct rb_conn_id conn, refused;
    assert_int_equal(rb_transport_connect(f->t[1], &there, &conn), RB_OK);
    settle(f);
    assert_int_equal(count_kind(f, RB_EVENT_ACCEPTED), 1);
    assert_int_equal(count_kind(f, RB_EVENT_CONNECTED), 1);
    struct rb_slice slice = RB_S("from node to node");
    assert_int_equal(rb_transport_send(f->t[1], conn, &slice, 1), RB_OK);
    settle(f);
    assert_int_equal(f->seen.len, slice.len);
    assert_memory_equal(f->seen.bytes, slice.ptr, slice.len);
    assert_int_equal(rb_transport_close(f->t[1], conn), RB_OK);
    settle(f);
    assert_int_equal(count_kind(f, RB_EVENT_CLOSED), 1);
    assert_int_equal(count_kind(f, RB_EVENT_FAILED), 1); /* the other side's orderly end */

    assert_int_equal(rb_transport_connect(f->t[1], &nowhere, &refused), RB_OK);
    settle(f);
    assert_int_equal(last_event(f)->kind, RB_EVENT_FAILED);
    assert_int_equal(last_event(f)->err, RB_ERR_RESET);
    assert_int_equal(rb_transport_close(f->t[1], refused), RB_OK);
    settle(f);
    assert_int_equal(last_event(f)->kind, RB_EVENT_CLOSED);

    assert_int_equal(rb_transport_connect(f->t[1], &there, &conn), RB_OK);
    assert_int_equal(rb_transport_close(f->t[1], conn), RB_OK); /* while it is dialing */
    settle(f);
    assert_int_equal(last_event(f)->kind, RB_EVENT_CLOSED);
    assert_int_equal(count_kind(f, RB_EVENT_ACCEPTED), 1);
    close_net(f);
}

static void envs_follow_net_and_seed(void **state)
{
    (void)state;
    struct fixture *f = open_net(&calm, 1);
    struct rb_env a, b, c;
    rb_sim_env_init(&a, f->net, 7);
    rb_sim_env_init(&b, f->net, 7);
    rb_sim_env_init(&c, f->net, 8);
    uint64_t first = rb_env_random(&a);
    assert_true(first == rb_env_random(&b));
    assert_true(first != rb_env_random(&c));
    uint64_t wall = a.wall_ns(a.ctx);
    assert_true(rb_env_now(&a) == rb_sim_net_now(f->net) && rb_env_now(&a) > 0);
    assert_true(rb_sim_net_due(f->net) == UINT64_MAX);
    rb_sim_net_advance(f->net, 5 * MS);
    assert_true(rb_env_now(&a) == rb_sim_net_now(f->net));
    assert_true(a.wall_ns(a.ctx) == wall + 5 * MS);
    close_net(f);
}

static void impossible_options_are_refused(void **state)
{
    (void)state;
    struct rb_sim_net *net;
    struct rb_sim_net_options options = calm;
    options.window_bytes = 0;
    assert_int_equal(rb_sim_net_create(&options, &net), RB_ERR_INVALID);
    options = calm;
    options.delay_min_ns = options.delay_max_ns + 1;
    assert_int_equal(rb_sim_net_create(&options, &net), RB_ERR_INVALID);
}

/* ---- any seed: two byte streams, everything random but resets ---- */

struct streams {
    struct fixture *f;
    struct rb_env draw;
    struct rb_conn_id conn;
    struct rb_sim_peer *peer;
    uint8_t sent_byte, peer_byte, got_byte; /* the next expected */
    uint8_t *lent;
    size_t sent_len, got_len, peer_sent_len;
    uint64_t digest;
    uint32_t seen_at;
};

static uint8_t *make_bytes(uint8_t *next, size_t len)
{
    uint8_t *bytes = malloc(len); /* exactly: a read beyond is seen by the checker */
    assert_non_null(bytes);
    for (size_t i = 0; i < len; i++) {
        bytes[i] = (*next)++;
    }
    return bytes;
}

static void stream_send(struct streams *s)
{
    if (s->lent != NULL) {
        return;
    }
    size_t len = 3 + rb_env_below(&s->draw, 3000), first = rb_env_below(&s->draw, (uint32_t)len);
    s->lent = make_bytes(&s->sent_byte, len);
    struct rb_slice slices[2] = { rb_slice_of(s->lent, first),
                                  rb_slice_of(s->lent + first, len - first) };
    assert_int_equal(rb_transport_send(s->f->t[0], s->conn, slices, 2), RB_OK);
    s->sent_len += len;
}

static void stream_hear(struct streams *s)
{
    uint8_t got[700];
    size_t len = rb_sim_peer_recv(s->peer, got, 1 + rb_env_below(&s->draw, sizeof(got)));
    for (size_t i = 0; i < len; i++) {
        assert_int_equal(got[i], s->got_byte++);
    }
    s->got_len += len;
}

static void stream_poll(struct streams *s)
{
    poll_once(s->f, 0);
    for (; s->seen_at < s->f->seen.count; s->seen_at++) {
        const struct rb_event *event = &s->f->seen.events[s->seen_at];
        s->digest = s->digest * 31 + event->kind + event->bytes.len;
        if (event->kind == RB_EVENT_SENT) {
            assert_int_equal(event->err, RB_OK);
            free(s->lent);
            s->lent = NULL;
        }
    }
    s->f->seen.count = s->seen_at = 0;
}

static uint64_t run_streams(uint64_t seed)
{
    struct rb_sim_net_options options = { .seed = seed,
                                          .delay_max_ns = seed % 3 * MS,
                                          .split_permille = 400,
                                          .short_write_permille = 400,
                                          .window_bytes = 500,
                                          .recv_bytes_max = 333 };
    struct streams s = { .f = open_net(&options, 1) };
    rb_env_seed(&s.draw, seed);
    s.peer = dial(s.f, &s.conn);
    s.f->seen.count = 0;
    for (int i = 0; i < 600; i++) {
        switch (rb_env_below(&s.draw, 6)) {
        case 0:
            stream_send(&s);
            break;
        case 1: {
            size_t len = 1 + rb_env_below(&s.draw, 900);
            uint8_t *bytes = make_bytes(&s.peer_byte, len);
            rb_sim_peer_send(s.peer, rb_slice_of(bytes, len));
            free(bytes);
            s.peer_sent_len += len;
            break;
        }
        case 2:
            stream_hear(&s);
            break;
        case 3:
            rb_sim_net_advance(s.f->net, MS);
            break;
        case 4:
            rb_transport_credit(s.f->t[0], s.conn, rb_env_below(&s.draw, 2));
            break;
        default:
            stream_poll(&s);
            break;
        }
    }
    rb_transport_credit(s.f->t[0], s.conn, true);
    for (int i = 0; i < 4000; i++) {
        stream_poll(&s);
        stream_hear(&s);
        rb_sim_net_advance(s.f->net, MS);
    }
    assert_null(s.lent);
    assert_true(s.sent_len == s.got_len);
    assert_true(s.f->seen.len == s.peer_sent_len);
    for (size_t i = 0; i < s.f->seen.len; i++) {
        assert_int_equal(s.f->seen.bytes[i], (uint8_t)i);
    }
    rb_sim_peer_close(s.peer, false);
    s.digest ^= rb_sim_net_now(s.f->net);
    close_net(s.f);
    return s.digest;
}

static void streams_arrive_whole_and_in_order(void **state)
{
    (void)state;
    uint64_t previous = 0;
    for (uint64_t seed = 1; seed <= 30; seed++) {
        uint64_t digest = run_streams(seed);
        assert_true(digest == run_streams(seed)); /* equal seeds, equal runs */
        assert_true(digest != previous);
        previous = digest;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ports_are_taken_and_given_back),
        cmocka_unit_test(bytes_go_both_ways_after_the_delay),
        cmocka_unit_test(close_ends_the_send_first),
        cmocka_unit_test(a_stalled_peer_fills_the_window),
        cmocka_unit_test(withdrawn_credit_stops_receiving),
        cmocka_unit_test(an_orderly_end_lets_sends_work),
        cmocka_unit_test(a_reset_fails_the_connection_once),
        cmocka_unit_test(a_failed_send_shows_the_reset_without_credit),
        cmocka_unit_test(faults_break_both_ends),
        cmocka_unit_test(spread_deals_in_turn),
        cmocka_unit_test(wake_is_seen_once),
        cmocka_unit_test(refused_memory_refuses_the_connection),
        cmocka_unit_test(nodes_connect_to_each_other),
        cmocka_unit_test(envs_follow_net_and_seed),
        cmocka_unit_test(impossible_options_are_refused),
        cmocka_unit_test(streams_arrive_whole_and_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
