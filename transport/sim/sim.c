/* sim.c - a network of cables in virtual time.
 *
 *   peer or conn              cable                                     conn or peer
 *   backlog, send --take--> [ lane: chunks with a due time ] --due--> RECEIVED, rb_sim_peer_recv
 *                             at most window_bytes
 *
 *  1. A lane is read in the order it was written: due times never decrease along its chunks.
 *  2. Taken bytes are copied at once; the rest of a send stays where its owner lent it, and is read
 *     again only by a later take. A SENT follows the last take, perhaps some time after it.
 *  3. Nothing happens but in a call: time moves in rb_sim_net_advance, which accepts, breaks and
 *     takes whatever came due; events are made in poll() from the state of the cables.
 *  4. Every draw comes from the one generator of the net, so equal calls give equal runs.
 *  5. A cable lives until both of its ends are gone. An end is a peer or a connection of a transport,
 *     whose slot is given back with its CLOSED.
 *  6. Received bytes are handed out in a block of their own that is freed by the next poll(), and a
 *     send is never read after its SENT: a memory checker sees every use outside the contract.
 */
#include "transport/sim/sim.h"

#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "ringbus/bounds.h"
#include "ringbus/check.h"
#include "transport/slot.h"

#define NEVER UINT64_MAX
#define START_NS 1000000000ull         /* timers read a due time of 0 as "not armed" */
#define WALL_NS 1700000000000000000ull /* an arbitrary date */
#define RECEIVED_PER_CONN_MAX 4        /* of one poll() */
#define TRANSPORTS_MAX 256
#define EPHEMERAL_PORT 40000

struct chunk {
    struct chunk *next;
    uint64_t due_ns;
    size_t at, len;
    uint8_t data[];
};

struct lane {
    struct chunk *first, *last;
    size_t used_bytes;    /* under way or not read yet */
    uint64_t last_due_ns; /* of what was taken, for order */
    uint64_t ready_ns;    /* nothing is taken before: a short write */
    uint64_t end_ns;      /* the writer's orderly end arrives; NEVER: it has not ended */
    bool reader_gone;     /* bytes are swallowed */
};

/** lane[side] is read by the end on that side: 0 who connected, 1 who accepted. */
struct cable {
    struct rb_list at_net;
    struct lane lane[2];
    struct sim_conn *conn[2];
    struct rb_sim_peer *peer; /* stands for conn[0] */
    uint8_t *backlog;         /* what the peer sent and the network has not taken */
    size_t backlog_at, backlog_len, backlog_cap;
    uint32_t node;
    uint16_t port, from_port;
    uint64_t accept_ns; /* reaches the listener; NEVER: it has */
    uint64_t break_ns;
    bool broken, fault, refused, peer_ending;
};

struct rb_sim_peer {
    struct rb_sim_net *net;
    struct cable *cable;
    bool stalled;
};

struct sending {
    struct rb_slice slices[RB_SEND_SLICES_MAX];
    uint32_t count, index;
    size_t offset; /* in slices[index] */
    bool active, submitted, done;
    enum rb_err err;
    uint64_t done_ns;
};

/*  --ACCEPTED, CONNECTED--> announced --FAILED--> failed --close()--> closing --CLOSED--> released
 *                               `--------------------------close()------^                         */
struct sim_conn {
    struct rb_slot slot; /* first: rb_slots gives these */
    struct rb_list at_transport;
    struct sim_transport *owner;
    struct cable *cable;
    uint32_t side, listener;
    uint32_t overrun; /* RECEIVED that may still come without credit */
    bool announced, noticed, failed, closing, credit;
    enum rb_err failed_err; /* RB_OK: an orderly end, sends still work */
    uint64_t closed_ns;
    struct sending send;
};

struct listener {
    struct rb_list at_net;
    struct sim_transport *owner;
    uint32_t id;
    uint16_t port;
    bool spread;
};

struct block {
    struct block *next;
    uint8_t data[];
};

struct sim_transport {
    struct rb_transport base; /* first */
    struct rb_sim_net *net;
    struct rb_list at_net;
    uint32_t node, index, next_listener, deal_next;
    uint32_t accept_failed_count, accept_failed_listener;
    bool woken;
    struct rb_slots slots;
    struct rb_list conns;
    struct block *blocks; /* bytes of the last batch */
    uint32_t event_count;
    struct rb_event events[RB_EVENTS_MAX];
};

struct rb_sim_net {
    struct rb_sim_net_options options;
    struct rb_env draw, entropy;
    uint64_t now_ns;
    uint16_t next_from_port;
    struct rb_list cables, transports, listeners;
};

static struct sim_transport *of(struct rb_transport *t)
{
    return (struct sim_transport *)t;
}

/** The simulation has no way to go on without memory for its own state. */
static void *take_memory(size_t bytes)
{
    void *memory = calloc(1, bytes);
    rb_assert(memory != NULL);
    return memory;
}

/* ---- chance ---- */

static bool chance(struct rb_sim_net *net, uint32_t permille)
{
    return permille > 0 && rb_env_below(&net->draw, 1000) < permille;
}

static uint64_t draw_delay(struct rb_sim_net *net)
{
    uint64_t span = net->options.delay_max_ns - net->options.delay_min_ns;
    return net->options.delay_min_ns + (span == 0 ? 0 : rb_env_random(&net->draw) % (span + 1));
}

/** 1 .. len */
static size_t draw_part(struct rb_sim_net *net, size_t len)
{
    return 1 + (size_t)(rb_env_random(&net->draw) % len);
}

static uint64_t max_ns(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static uint64_t min_ns(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* ---- lanes ---- */

static void put_chunk(struct rb_sim_net *net, struct lane *lane, const uint8_t *bytes, size_t len)
{
    struct chunk *chunk = take_memory(sizeof(*chunk) + len);
    lane->last_due_ns = max_ns(lane->last_due_ns, net->now_ns + draw_delay(net));
    chunk->due_ns = lane->last_due_ns;
    chunk->len = len;
    memcpy(chunk->data, bytes, len);
    if (lane->last == NULL) {
        lane->first = chunk;
    } else {
        lane->last->next = chunk;
    }
    lane->last = chunk;
    lane->used_bytes += len;
}

/** Copies bytes into the lane; this is where a delivery is cut or the cable's break is decided. */
static void put_bytes(struct rb_sim_net *net, struct cable *cable, struct lane *lane,
                      const uint8_t *bytes, size_t len)
{
    if (lane->reader_gone) {
        return;
    }
    if (len > 1 && chance(net, net->options.split_permille)) {
        size_t part = draw_part(net, len - 1);
        put_chunk(net, lane, bytes, part);
        lane->last_due_ns = max_ns(lane->last_due_ns, net->now_ns) + draw_delay(net) + 1;
        bytes += part;
        len -= part;
    }
    put_chunk(net, lane, bytes, len);
    if (chance(net, net->options.reset_permille)) {
        cable->break_ns = min_ns(cable->break_ns, lane->last_due_ns);
        cable->fault = true;
    }
}

static void pop_chunk(struct lane *lane)
{
    struct chunk *chunk = lane->first;
    lane->used_bytes -= chunk->len - chunk->at;
    lane->first = chunk->next;
    if (lane->first == NULL) {
        lane->last = NULL;
    }
    free(chunk);
}

static void drop_chunks(struct lane *lane)
{
    while (lane->first != NULL) {
        pop_chunk(lane);
    }
}

/** Forgets what has not arrived yet. */
static void drop_flying(struct lane *lane, uint64_t now_ns)
{
    struct chunk **at = &lane->first;
    lane->last = NULL;
    while (*at != NULL && (*at)->due_ns <= now_ns) {
        lane->last = *at;
        at = &(*at)->next;
    }
    while (*at != NULL) {
        struct chunk *chunk = *at;
        *at = chunk->next;
        lane->used_bytes -= chunk->len - chunk->at;
        free(chunk);
    }
}

static bool lane_readable(const struct lane *lane, uint64_t now_ns)
{
    return lane->first != NULL && lane->first->due_ns <= now_ns;
}

/** Arrived bytes, at most `cap`. */
static size_t lane_available(const struct lane *lane, uint64_t now_ns, size_t cap)
{
    size_t len = 0;
    for (const struct chunk *chunk = lane->first;
         chunk != NULL && chunk->due_ns <= now_ns && len < cap; chunk = chunk->next) {
        len += chunk->len - chunk->at;
    }
    return len < cap ? len : cap;
}

static size_t lane_read(struct lane *lane, uint64_t now_ns, uint8_t *out, size_t cap)
{
    size_t len = 0;
    while (len < cap && lane_readable(lane, now_ns)) {
        struct chunk *chunk = lane->first;
        size_t part = chunk->len - chunk->at;
        part = part < cap - len ? part : cap - len;
        memcpy(out + len, chunk->data + chunk->at, part);
        chunk->at += part;
        lane->used_bytes -= part;
        len += part;
        if (chunk->at == chunk->len) {
            pop_chunk(lane);
        }
    }
    return len;
}

/** Everything arrived was read and the writer's end as well. */
static bool lane_ended(const struct lane *lane, uint64_t now_ns)
{
    return lane->first == NULL && lane->end_ns <= now_ns;
}

static void end_lane(struct rb_sim_net *net, struct lane *lane)
{
    lane->end_ns = max_ns(lane->last_due_ns, net->now_ns + draw_delay(net));
}

static size_t lane_room(const struct rb_sim_net *net, const struct lane *lane)
{
    size_t window = net->options.window_bytes;
    return lane->used_bytes < window ? window - lane->used_bytes : 0;
}

/* ---- cables ---- */

static struct cable *open_cable(struct rb_sim_net *net, uint32_t node, uint16_t port)
{
    struct cable *cable = take_memory(sizeof(*cable));
    for (int side = 0; side < 2; side++) {
        cable->lane[side].end_ns = NEVER;
    }
    cable->node = node;
    cable->port = port;
    cable->from_port = net->next_from_port++;
    cable->accept_ns = net->now_ns + draw_delay(net);
    cable->break_ns = NEVER;
    rb_list_append(&net->cables, &cable->at_net);
    return cable;
}

/** Invariant 5. */
static void free_cable_unused(struct cable *cable)
{
    if (cable->conn[0] != NULL || cable->conn[1] != NULL || cable->peer != NULL ||
        (cable->accept_ns != NEVER && !cable->broken)) {
        return;
    }
    rb_list_remove(&cable->at_net);
    drop_chunks(&cable->lane[0]);
    drop_chunks(&cable->lane[1]);
    free(cable->backlog);
    free(cable);
}

static void drop_backlog(struct cable *cable)
{
    cable->backlog_at = cable->backlog_len = 0;
}

static void break_cable(struct rb_sim_net *net, struct cable *cable)
{
    if (cable->broken) {
        return;
    }
    cable->broken = true;
    for (int side = 0; side < 2; side++) {
        drop_flying(&cable->lane[side], net->now_ns);
        if (cable->conn[side] != NULL && chance(net, 500)) {
            drop_chunks(&cable->lane[side]); /* a reset may overtake what was not read */
        }
    }
    drop_backlog(cable);
}

/** Moves what the peer sent into the lane, as the window allows. */
static void pump_peer(struct rb_sim_net *net, struct cable *cable)
{
    struct lane *lane = &cable->lane[1];
    while (cable->backlog_at < cable->backlog_len) {
        size_t len = cable->backlog_len - cable->backlog_at;
        if (!lane->reader_gone) {
            size_t room = lane_room(net, lane);
            len = len < room ? len : room;
        }
        if (len == 0) {
            return;
        }
        put_bytes(net, cable, lane, cable->backlog + cable->backlog_at, len);
        cable->backlog_at += len;
    }
    drop_backlog(cable);
    if (cable->peer_ending && lane->end_ns == NEVER) {
        end_lane(net, lane);
    }
}

/* ---- sends ---- */

static void finish_send(struct sim_conn *conn, enum rb_err err)
{
    struct rb_sim_net *net = conn->owner->net;
    conn->send.done = true;
    conn->send.err = err;
    conn->send.done_ns = net->now_ns + (chance(net, 250) ? draw_delay(net) : 0);
}

static size_t sending_left(const struct sending *send)
{
    size_t left = 0;
    for (uint32_t i = send->index; i < send->count; i++) {
        left += send->slices[i].len;
    }
    return left - send->offset;
}

/** Takes at most `limit` bytes of the send; true when none is left. */
static bool take_sending(struct rb_sim_net *net, struct cable *cable, struct lane *lane,
                         struct sending *send, size_t limit)
{
    while (send->index < send->count) {
        struct rb_slice slice = send->slices[send->index];
        size_t len = slice.len - send->offset;
        if (len == 0) {
            send->index++;
            send->offset = 0;
            continue;
        }
        len = len < limit ? len : limit;
        if (len == 0) {
            return false;
        }
        put_bytes(net, cable, lane, slice.ptr + send->offset, len);
        send->offset += len;
        limit -= len;
    }
    return true;
}

/** Lets the network take from a submitted send what it wants to. */
static void pump_conn(struct sim_conn *conn)
{
    struct rb_sim_net *net = conn->owner->net;
    struct sending *send = &conn->send;
    struct cable *cable = conn->cable;
    if (!send->active || !send->submitted || send->done) {
        return;
    }
    if (cable->broken) {
        conn->noticed = true;
        finish_send(conn, RB_ERR_RESET);
        return;
    }
    struct lane *lane = &cable->lane[1 - conn->side];
    if (lane->reader_gone) {
        finish_send(conn, RB_OK);
        return;
    }
    if (net->now_ns < lane->ready_ns) {
        return;
    }
    size_t left = sending_left(send), room = lane_room(net, lane);
    size_t limit = left < room ? left : room;
    if (limit > 0 && chance(net, net->options.short_write_permille)) {
        limit = draw_part(net, limit);
        lane->ready_ns = net->now_ns + 1 + draw_delay(net);
    }
    if (take_sending(net, cable, lane, send, limit)) {
        finish_send(conn, RB_OK);
    }
}

static void pump_cable(struct rb_sim_net *net, struct cable *cable)
{
    pump_peer(net, cable);
    for (int side = 0; side < 2; side++) {
        if (cable->conn[side] != NULL && !cable->conn[side]->closing) {
            pump_conn(cable->conn[side]);
        }
    }
}

/* ---- accepting ---- */

static struct listener *find_listener(struct rb_sim_net *net, uint32_t node, uint16_t port)
{
    for (struct rb_list *at = net->listeners.next; at != &net->listeners; at = at->next) {
        struct listener *listener = RB_CONTAINER(at, struct listener, at_net);
        if (listener->owner->node == node && listener->port == port) {
            return listener;
        }
    }
    return NULL;
}

static struct sim_transport *find_transport(struct rb_sim_net *net, uint32_t node, uint32_t index)
{
    for (struct rb_list *at = net->transports.next; at != &net->transports; at = at->next) {
        struct sim_transport *t = RB_CONTAINER(at, struct sim_transport, at_net);
        if (t->node == node && t->index == index) {
            return t;
        }
    }
    return NULL;
}

/** The transports of a node in the order of their indexes, which have no gaps. */
static struct sim_transport *deal_transport(struct rb_sim_net *net, struct listener *listener)
{
    struct sim_transport *owner = listener->owner;
    if (!listener->spread) {
        return owner;
    }
    struct sim_transport *t = find_transport(net, owner->node, owner->deal_next);
    if (t == NULL) {
        owner->deal_next = 0;
        t = find_transport(net, owner->node, 0);
    }
    owner->deal_next++;
    return t == NULL ? owner : t;
}

static struct sim_conn *open_conn(struct sim_transport *t, struct cable *cable, uint32_t side)
{
    struct sim_conn *conn = (struct sim_conn *)rb_slots_acquire(&t->slots);
    if (conn == NULL) {
        return NULL;
    }
    conn->owner = t;
    conn->cable = cable;
    conn->side = side;
    conn->credit = true;
    cable->conn[side] = conn;
    rb_list_append(&t->conns, &conn->at_transport);
    return conn;
}

static void accept_cable(struct rb_sim_net *net, struct cable *cable)
{
    cable->accept_ns = NEVER;
    struct listener *listener = find_listener(net, cable->node, cable->port);
    if (listener == NULL) {
        cable->refused = true;
        break_cable(net, cable);
        return;
    }
    struct sim_transport *t = deal_transport(net, listener);
    struct sim_conn *conn = open_conn(t, cable, 1);
    if (conn == NULL) {
        listener->owner->accept_failed_count++;
        listener->owner->accept_failed_listener = listener->id;
        break_cable(net, cable);
        return;
    }
    conn->listener = listener->id;
}

/** Everything that came due in virtual time (invariant 3). */
static void settle_net(struct rb_sim_net *net)
{
    struct rb_list *next;
    for (struct rb_list *at = net->cables.next; at != &net->cables; at = next) {
        next = at->next;
        struct cable *cable = RB_CONTAINER(at, struct cable, at_net);
        if (!cable->broken && cable->accept_ns <= net->now_ns) {
            accept_cable(net, cable);
        }
        if (cable->break_ns <= net->now_ns) {
            break_cable(net, cable);
        }
        pump_cable(net, cable);
        free_cable_unused(cable);
    }
}

/* ---- time ---- */

static uint64_t after(uint64_t due_ns, uint64_t now_ns)
{
    return due_ns > now_ns ? due_ns : NEVER;
}

static uint64_t lane_due(const struct lane *lane, uint64_t now_ns)
{
    const struct chunk *chunk = lane->first;
    while (chunk != NULL && chunk->due_ns <= now_ns) {
        chunk = chunk->next;
    }
    uint64_t due = chunk == NULL ? NEVER : chunk->due_ns;
    return lane->reader_gone ? NEVER : min_ns(due, after(lane->end_ns, now_ns));
}

static uint64_t conn_due(const struct sim_conn *conn, uint64_t now_ns)
{
    uint64_t due = NEVER;
    if (conn->closing) {
        due = after(conn->closed_ns, now_ns);
    }
    if (conn->send.active && conn->send.done) {
        due = min_ns(due, after(conn->send.done_ns, now_ns));
    } else if (conn->send.active && conn->send.submitted) {
        due = min_ns(due, after(conn->cable->lane[1 - conn->side].ready_ns, now_ns));
    }
    return due;
}

static uint64_t cable_due(const struct cable *cable, uint64_t now_ns)
{
    uint64_t due = NEVER;
    if (!cable->broken) {
        due = min_ns(cable->break_ns, cable->accept_ns);
        due = min_ns(due, lane_due(&cable->lane[0], now_ns));
        due = min_ns(due, lane_due(&cable->lane[1], now_ns));
    }
    for (int side = 0; side < 2; side++) {
        if (cable->conn[side] != NULL) {
            due = min_ns(due, conn_due(cable->conn[side], now_ns));
        }
    }
    return due;
}

uint64_t rb_sim_net_due(const struct rb_sim_net *net)
{
    uint64_t due = NEVER;
    for (struct rb_list *at = net->cables.next; at != &net->cables; at = at->next) {
        due = min_ns(due, cable_due(RB_CONTAINER(at, struct cable, at_net), net->now_ns));
    }
    return due;
}

uint64_t rb_sim_net_advance(struct rb_sim_net *net, uint64_t limit_ns)
{
    net->now_ns = min_ns(rb_sim_net_due(net), net->now_ns + limit_ns);
    settle_net(net);
    return net->now_ns;
}

uint64_t rb_sim_net_now(const struct rb_sim_net *net)
{
    return net->now_ns;
}

static uint64_t env_now(void *ctx)
{
    return ((struct rb_sim_net *)ctx)->now_ns;
}

static uint64_t env_wall(void *ctx)
{
    return WALL_NS + ((struct rb_sim_net *)ctx)->now_ns;
}

static void env_entropy(void *ctx, void *out, size_t len)
{
    struct rb_sim_net *net = ctx;
    uint8_t *at = out;
    for (size_t i = 0; i < len; i++) {
        at[i] = (uint8_t)(rb_env_random(&net->entropy) >> 32);
    }
}

void rb_sim_env_init(struct rb_env *env, struct rb_sim_net *net, uint64_t seed)
{
    *env = (struct rb_env){
        .now_ns = env_now, .wall_ns = env_wall, .entropy = env_entropy, .ctx = net
    };
    rb_env_seed(env, seed);
}

struct rb_addr rb_sim_addr(uint32_t node, uint16_t port)
{
    return (struct rb_addr){ .port = port, .scope = node };
}

/* ---- the transport: events ---- */

static struct rb_event *give(struct sim_transport *t, struct sim_conn *conn,
                             enum rb_event_kind kind, enum rb_err err)
{
    rb_assert(t->event_count < RB_EVENTS_MAX);
    struct rb_event *event = &t->events[t->event_count++];
    *event = (struct rb_event){ .kind = kind, .err = err };
    if (conn != NULL) {
        event->conn = conn->slot.id;
        event->user = conn->slot.user;
        event->listener = conn->listener;
    }
    return event;
}

static bool batch_full(const struct sim_transport *t)
{
    return t->event_count == RB_EVENTS_MAX;
}

static void release_conn(struct sim_transport *t, struct sim_conn *conn)
{
    struct cable *cable = conn->cable;
    cable->conn[conn->side] = NULL;
    rb_list_remove(&conn->at_transport);
    rb_slots_release(&t->slots, &conn->slot);
    free_cable_unused(cable);
}

static void give_failed(struct sim_transport *t, struct sim_conn *conn, enum rb_err err)
{
    conn->failed = true;
    conn->failed_err = err;
    give(t, conn, RB_EVENT_FAILED, err);
}

static void collect_closing(struct sim_transport *t, struct sim_conn *conn)
{
    if (!conn->announced) {
        conn->announced = true;
        give_failed(t, conn, RB_ERR_CANCELED); /* closed while dialing */
    } else if (conn->send.active) {
        conn->send.active = false;
        give(t, conn, RB_EVENT_SENT, conn->send.done ? conn->send.err : RB_ERR_CANCELED);
    }
    if (!batch_full(t) && conn->closed_ns <= t->net->now_ns) {
        give(t, conn, RB_EVENT_CLOSED, RB_OK);
        release_conn(t, conn);
    }
}

static void collect_new(struct sim_transport *t, struct sim_conn *conn)
{
    struct cable *cable = conn->cable;
    if (conn->side == 0 && cable->accept_ns != NEVER) {
        return; /* still dialing */
    }
    conn->announced = true;
    if (conn->side == 0 && (cable->refused || cable->broken)) {
        give_failed(t, conn, RB_ERR_RESET);
        return;
    }
    struct rb_event *event =
        give(t, conn, conn->side == 0 ? RB_EVENT_CONNECTED : RB_EVENT_ACCEPTED, RB_OK);
    uint16_t ports[2] = { cable->from_port, cable->port };
    event->peer = (struct rb_addr){ .port = ports[1 - conn->side] };
    event->local = (struct rb_addr){ .port = ports[conn->side] };
}

static void collect_received(struct sim_transport *t, struct sim_conn *conn)
{
    struct rb_sim_net *net = t->net;
    struct lane *lane = &conn->cable->lane[conn->side];
    for (int i = 0; i < RECEIVED_PER_CONN_MAX && !batch_full(t); i++) {
        if (!conn->credit && conn->overrun == 0) {
            return;
        }
        size_t len = lane_available(lane, net->now_ns, net->options.recv_bytes_max);
        if (len == 0) {
            conn->overrun = 0; /* only what had arrived when credit was withdrawn */
            return;
        }
        if (!conn->credit) {
            conn->overrun--;
        }
        struct block *block = take_memory(sizeof(*block) + len);
        block->next = t->blocks;
        t->blocks = block;
        lane_read(lane, net->now_ns, block->data, len);
        give(t, conn, RB_EVENT_RECEIVED, RB_OK)->bytes = rb_slice_of(block->data, len);
        pump_cable(net, conn->cable); /* the window has room again */
    }
}

/** True when the stream is over and its owner would notice: by a read, or by a failed send. */
static bool conn_over(const struct sim_conn *conn, uint64_t now_ns)
{
    const struct cable *cable = conn->cable;
    const struct lane *lane = &cable->lane[conn->side];
    if (conn->failed) {
        return false;
    }
    if (cable->broken) {
        return conn->noticed || (conn->credit && !lane_readable(lane, now_ns));
    }
    return conn->credit && lane_ended(lane, now_ns);
}

static void collect_conn(struct sim_transport *t, struct sim_conn *conn)
{
    if (conn->closing) {
        collect_closing(t, conn);
        return;
    }
    if (!conn->announced) {
        collect_new(t, conn);
        return;
    }
    struct sending *send = &conn->send;
    if (send->active && send->done && send->done_ns <= t->net->now_ns) {
        send->active = false;
        give(t, conn, RB_EVENT_SENT, send->err);
    }
    if (conn->failed || batch_full(t)) {
        return;
    }
    if (!conn->noticed) {
        collect_received(t, conn);
    }
    if (!batch_full(t) && conn_over(conn, t->net->now_ns)) {
        give_failed(t, conn, conn->cable->broken ? RB_ERR_RESET : RB_OK);
    }
}

/** Lets the next batch begin with another connection. */
static void rotate_conns(struct sim_transport *t)
{
    if (t->slots.used_count < 2) {
        return;
    }
    struct rb_list *first = t->conns.next;
    for (uint32_t skip = rb_env_below(&t->net->draw, t->slots.used_count); skip > 0; skip--) {
        first = first->next;
    }
    if (first != &t->conns) {
        rb_list_remove(&t->conns);
        rb_list_append(first, &t->conns);
    }
}

static void free_blocks(struct sim_transport *t)
{
    while (t->blocks != NULL) {
        struct block *block = t->blocks;
        t->blocks = block->next;
        free(block);
    }
}

static uint32_t sim_poll(struct rb_transport *base, int64_t timeout_ns,
                         struct rb_event **ret_events)
{
    struct sim_transport *t = of(base);
    (void)timeout_ns;
    free_blocks(t);
    t->event_count = 0;
    while (t->accept_failed_count > 0 && !batch_full(t)) {
        t->accept_failed_count--;
        give(t, NULL, RB_EVENT_ACCEPT_FAILED, RB_ERR_MEMORY)->listener = t->accept_failed_listener;
    }
    rotate_conns(t);
    for (struct rb_list *at = t->conns.next; at != &t->conns; at = at->next) {
        struct sim_conn *conn = RB_CONTAINER(at, struct sim_conn, at_transport);
        conn->send.submitted = conn->send.active;
        if (!conn->closing) {
            pump_conn(conn);
        }
    }
    struct rb_list *next;
    for (struct rb_list *at = t->conns.next; at != &t->conns && !batch_full(t); at = next) {
        next = at->next;
        collect_conn(t, RB_CONTAINER(at, struct sim_conn, at_transport));
    }
    *ret_events = t->events;
    return t->event_count;
}

static bool conn_ready(const struct sim_conn *conn, uint64_t now_ns)
{
    if (conn->closing) {
        return !conn->announced || conn->send.active || conn->closed_ns <= now_ns;
    }
    if (!conn->announced) {
        return conn->side == 1 || conn->cable->accept_ns == NEVER;
    }
    if (conn->send.active &&
        (!conn->send.submitted || (conn->send.done && conn->send.done_ns <= now_ns))) {
        return true;
    }
    if (conn->failed) {
        return false;
    }
    return conn_over(conn, now_ns) || ((conn->credit || conn->overrun > 0) && !conn->noticed &&
                                       lane_readable(&conn->cable->lane[conn->side], now_ns));
}

bool rb_sim_transport_ready(struct rb_transport *base)
{
    struct sim_transport *t = of(base);
    if (t->accept_failed_count > 0) {
        return true;
    }
    for (struct rb_list *at = t->conns.next; at != &t->conns; at = at->next) {
        if (conn_ready(RB_CONTAINER(at, struct sim_conn, at_transport), t->net->now_ns)) {
            return true;
        }
    }
    return false;
}

/* ---- the transport: calls ---- */

static uint16_t free_port(struct rb_sim_net *net, uint32_t node)
{
    for (uint16_t port = 1024; port < EPHEMERAL_PORT; port++) {
        if (find_listener(net, node, port) == NULL) {
            return port;
        }
    }
    return 0;
}

static enum rb_err sim_listen(struct rb_transport *base, const struct rb_listen_options *options,
                              uint32_t *ret_listener, struct rb_addr *ret_bound)
{
    struct sim_transport *t = of(base);
    if (options->unix_path != NULL) {
        return RB_ERR_UNSUPPORTED;
    }
    uint16_t port = options->addr.port == 0 ? free_port(t->net, t->node) : options->addr.port;
    if (port == 0) {
        return RB_ERR_LIMIT;
    }
    if (find_listener(t->net, t->node, port) != NULL) {
        return RB_ERR_IN_USE;
    }
    struct listener *listener = take_memory(sizeof(*listener));
    *listener = (struct listener){
        .owner = t, .id = t->next_listener++, .port = port, .spread = options->spread
    };
    rb_list_append(&t->net->listeners, &listener->at_net);
    *ret_listener = listener->id;
    *ret_bound = options->addr;
    ret_bound->port = port;
    return RB_OK;
}

static void free_listener(struct listener *listener)
{
    rb_list_remove(&listener->at_net);
    free(listener);
}

static void sim_unlisten(struct rb_transport *base, uint32_t id)
{
    struct sim_transport *t = of(base);
    for (struct rb_list *at = t->net->listeners.next; at != &t->net->listeners; at = at->next) {
        struct listener *listener = RB_CONTAINER(at, struct listener, at_net);
        if (listener->owner == t && listener->id == id) {
            free_listener(listener);
            return;
        }
    }
}

static enum rb_err sim_connect(struct rb_transport *base, const struct rb_addr *addr,
                               struct rb_conn_id *ret_conn)
{
    struct sim_transport *t = of(base);
    struct cable *cable = open_cable(t->net, addr->scope, addr->port);
    struct sim_conn *conn = open_conn(t, cable, 0);
    if (conn == NULL) {
        cable->accept_ns = NEVER;
        free_cable_unused(cable);
        return RB_ERR_MEMORY;
    }
    *ret_conn = conn->slot.id;
    settle_net(t->net);
    return RB_OK;
}

static struct sim_conn *find_open(struct sim_transport *t, struct rb_conn_id id)
{
    struct sim_conn *conn = (struct sim_conn *)rb_slots_find(&t->slots, id);
    return conn == NULL || conn->closing ? NULL : conn;
}

static enum rb_err sim_send(struct rb_transport *base, struct rb_conn_id id,
                            const struct rb_slice *slices, uint32_t slice_count)
{
    struct sim_conn *conn = find_open(of(base), id);
    rb_assert(slice_count >= 1 && slice_count <= RB_SEND_SLICES_MAX);
    if (conn == NULL) {
        return RB_ERR_STALE;
    }
    if (conn->failed && conn->failed_err != RB_OK) {
        return RB_ERR_RESET;
    }
    if (conn->send.active) {
        return RB_ERR_BUSY;
    }
    rb_assert(conn->announced); /* a dialed one waits for CONNECTED */
    conn->send = (struct sending){ .count = slice_count, .active = true };
    memcpy(conn->send.slices, slices, slice_count * sizeof(*slices));
    return RB_OK;
}

/** The end of `conn`: what was taken still arrives, what comes in is swallowed. */
static void hang_up(struct sim_conn *conn)
{
    struct rb_sim_net *net = conn->owner->net;
    struct cable *cable = conn->cable;
    struct lane *in = &cable->lane[conn->side], *out = &cable->lane[1 - conn->side];
    in->reader_gone = true;
    drop_chunks(in);
    if (cable->accept_ns != NEVER) {
        cable->accept_ns = NEVER; /* a dial given up */
        break_cable(net, cable);
    }
    if (out->end_ns == NEVER) {
        end_lane(net, out);
    }
}

static enum rb_err sim_close(struct rb_transport *base, struct rb_conn_id id)
{
    struct sim_transport *t = of(base);
    struct sim_conn *conn = find_open(t, id);
    if (conn == NULL) {
        return RB_ERR_STALE;
    }
    if (chance(t->net, 500)) {
        pump_conn(conn);
    }
    conn->closing = true;
    conn->closed_ns = t->net->now_ns + (chance(t->net, 250) ? draw_delay(t->net) : 0);
    hang_up(conn);
    return RB_OK;
}

static void sim_credit(struct rb_transport *base, struct rb_conn_id id, bool receive)
{
    struct sim_transport *t = of(base);
    struct sim_conn *conn = find_open(t, id);
    if (conn == NULL || conn->credit == receive) {
        return;
    }
    conn->credit = receive;
    uint32_t overrun = receive ? 0 : rb_env_below(&t->net->draw, 3);
    bool arrived = lane_readable(&conn->cable->lane[conn->side], t->net->now_ns);
    conn->overrun = arrived ? overrun : 0;
}

static void sim_set_user(struct rb_transport *base, struct rb_conn_id id, void *user)
{
    struct rb_slot *slot = rb_slots_find(&of(base)->slots, id);
    if (slot != NULL) {
        slot->user = user;
    }
}

static void sim_wake(struct rb_transport *base, uint32_t peer_index)
{
    struct sim_transport *t = of(base);
    struct sim_transport *peer = find_transport(t->net, t->node, peer_index);
    if (peer != NULL) {
        peer->woken = true;
    }
}

static void sim_destroy(struct rb_transport *base)
{
    struct sim_transport *t = of(base);
    struct rb_list *next;
    for (struct rb_list *at = t->net->listeners.next; at != &t->net->listeners; at = next) {
        next = at->next;
        struct listener *listener = RB_CONTAINER(at, struct listener, at_net);
        if (listener->owner == t) {
            free_listener(listener);
        }
    }
    while (!rb_list_empty(&t->conns)) {
        struct sim_conn *conn = RB_CONTAINER(t->conns.next, struct sim_conn, at_transport);
        hang_up(conn);
        release_conn(t, conn);
    }
    free_blocks(t);
    rb_slots_deinit(&t->slots);
    rb_list_remove(&t->at_net);
    free(t);
}

static const struct rb_transport_ops sim_ops = {
    .name = "sim",
    .listen = sim_listen,
    .unlisten = sim_unlisten,
    .connect = sim_connect,
    .send = sim_send,
    .close = sim_close,
    .credit = sim_credit,
    .set_user = sim_set_user,
    .poll = sim_poll,
    .wake = sim_wake,
    .destroy = sim_destroy,
};

enum rb_err rb_sim_transport_create(struct rb_sim_net *net, uint32_t node, uint32_t index,
                                    struct rb_budget *budget, struct rb_transport **ret_transport)
{
    rb_assert(index < TRANSPORTS_MAX && find_transport(net, node, index) == NULL);
    struct sim_transport *t = calloc(1, sizeof(*t));
    if (t == NULL) {
        return RB_ERR_MEMORY;
    }
    t->base.ops = &sim_ops;
    t->net = net;
    t->node = node;
    t->index = index;
    rb_list_init(&t->conns);
    rb_slots_init(&t->slots, budget, sizeof(struct sim_conn));
    rb_list_append(&net->transports, &t->at_net);
    *ret_transport = &t->base;
    return RB_OK;
}

bool rb_sim_transport_woken(struct rb_transport *base)
{
    bool woken = of(base)->woken;
    of(base)->woken = false;
    return woken;
}

uint32_t rb_sim_transport_conn_count(struct rb_transport *base)
{
    return of(base)->slots.used_count;
}

/* ---- peers ---- */

enum rb_err rb_sim_peer_connect(struct rb_sim_net *net, uint32_t node, uint16_t port,
                                struct rb_sim_peer **ret_peer)
{
    if (find_listener(net, node, port) == NULL) {
        return RB_ERR_ADDRESS;
    }
    struct rb_sim_peer *peer = take_memory(sizeof(*peer));
    peer->net = net;
    peer->cable = open_cable(net, node, port);
    peer->cable->peer = peer;
    settle_net(net);
    *ret_peer = peer;
    return RB_OK;
}

void rb_sim_peer_send(struct rb_sim_peer *peer, struct rb_slice bytes)
{
    struct cable *cable = peer->cable;
    if (cable->broken || bytes.len == 0) {
        return;
    }
    if (cable->backlog_len + bytes.len > cable->backlog_cap) {
        cable->backlog_cap = 2 * (cable->backlog_len + bytes.len);
        cable->backlog = realloc(cable->backlog, cable->backlog_cap);
        rb_assert(cable->backlog != NULL);
    }
    memcpy(cable->backlog + cable->backlog_len, bytes.ptr, bytes.len);
    cable->backlog_len += bytes.len;
    pump_peer(peer->net, cable);
}

size_t rb_sim_peer_recv(struct rb_sim_peer *peer, void *out, size_t cap)
{
    if (peer->stalled) {
        return 0;
    }
    struct cable *cable = peer->cable;
    size_t len = lane_read(&cable->lane[0], peer->net->now_ns, out, cap);
    if (len > 0) {
        pump_cable(peer->net, cable);
    }
    return len;
}

void rb_sim_peer_stall(struct rb_sim_peer *peer, bool stalled)
{
    peer->stalled = stalled;
}

bool rb_sim_peer_ended(const struct rb_sim_peer *peer)
{
    const struct cable *cable = peer->cable;
    if (cable->broken) {
        return cable->lane[0].first == NULL;
    }
    return lane_ended(&cable->lane[0], peer->net->now_ns);
}

bool rb_sim_peer_broken(const struct rb_sim_peer *peer)
{
    return peer->cable->broken && peer->cable->fault;
}

void rb_sim_peer_close(struct rb_sim_peer *peer, bool reset)
{
    struct rb_sim_net *net = peer->net;
    struct cable *cable = peer->cable;
    cable->peer = NULL;
    cable->lane[0].reader_gone = true;
    drop_chunks(&cable->lane[0]);
    if (reset) {
        cable->break_ns = min_ns(cable->break_ns, net->now_ns + draw_delay(net));
        if (cable->accept_ns != NEVER || cable->break_ns <= net->now_ns) {
            break_cable(net, cable);
        }
    } else {
        cable->peer_ending = true;
    }
    pump_cable(net, cable);
    free_cable_unused(cable);
    free(peer);
}

/* ---- the net ---- */

enum rb_err rb_sim_net_create(const struct rb_sim_net_options *options, struct rb_sim_net **ret_net)
{
    if (options->delay_min_ns > options->delay_max_ns || options->window_bytes == 0 ||
        options->recv_bytes_max == 0) {
        return RB_ERR_INVALID;
    }
    struct rb_sim_net *net = calloc(1, sizeof(*net));
    if (net == NULL) {
        return RB_ERR_MEMORY;
    }
    net->options = *options;
    net->now_ns = START_NS;
    net->next_from_port = EPHEMERAL_PORT;
    rb_list_init(&net->cables);
    rb_list_init(&net->transports);
    rb_list_init(&net->listeners);
    rb_env_seed(&net->draw, options->seed);
    rb_env_seed(&net->entropy, ~options->seed);
    *ret_net = net;
    return RB_OK;
}

void rb_sim_net_destroy(struct rb_sim_net *net)
{
    rb_assert(rb_list_empty(&net->transports) && rb_list_empty(&net->listeners));
    struct rb_list *next;
    for (struct rb_list *at = net->cables.next; at != &net->cables; at = next) {
        next = at->next;
        struct cable *cable = RB_CONTAINER(at, struct cable, at_net);
        rb_assert(cable->peer == NULL);
        cable->accept_ns = NEVER;
        free_cable_unused(cable);
    }
    free(net);
}
