/* shard.c - the shard's side of the pipes: a transport (inside.h has the rules between both sides).
 *
 *   queued pipe -> conn, ACCEPTED -> [ send -> ring -> SENT | ring -> RECEIVED ] -> FAILED
 *                                                  close: SENT, then CLOSED, freed
 *
 * 1. A connection is in `active` while it has events to deliver, or may have. What is left when the
 *    batch is full stays there, and we ring our own bell.
 * 2. RECEIVED lends bytes of the ring itself; their room is given back by the next poll(), for
 *    which we ring our own bell as well.
 * 3. ACCEPTED is the only event of its connection in a batch, so that set_user() comes in time.
 * 4. A send copies into the ring at once, and again whenever the program has made room.
 */
#include "ringbus/check.h"
#include "transport/pipe/inside.h"

static struct rb_pipes *of(struct rb_transport *base)
{
    return (struct rb_pipes *)base;
}

static struct pipe_conn *find(struct rb_transport *base, struct rb_conn_id id)
{
    struct pipe_conn *conn = (struct pipe_conn *)rb_slots_find(&of(base)->slots, id);
    return conn != NULL && !conn->closing ? conn : NULL;
}

static bool has_room(const struct rb_pipes *pipes)
{
    return pipes->event_count < pipes->event_max;
}

static struct rb_event *add_event(struct rb_pipes *pipes, struct pipe_conn *conn,
                                  enum rb_event_kind kind, enum rb_err err)
{
    rb_assert(has_room(pipes));
    struct rb_event *event = &pipes->events[pipes->event_count++];
    *event = (struct rb_event){ .kind = kind, .err = err };
    if (conn != NULL) {
        event->conn = conn->slot.id;
        event->user = conn->slot.user;
    }
    return event;
}

static void enlist(struct rb_pipes *pipes, struct pipe_conn *conn)
{
    if (rb_list_empty(&conn->active_link)) {
        rb_list_append(&pipes->active, &conn->active_link);
    }
}

/* Events will follow from what the owner just did: the next poll() must look. */
static void look_again(struct rb_pipes *pipes, struct pipe_conn *conn)
{
    enlist(pipes, conn);
    (void)rb_doorbell_ring(&pipes->bell); /* we are awake */
}

/* ---- send ---- */

static void finish_send(struct pipe_conn *conn, enum rb_err err)
{
    conn->left = false;
    conn->sent_err = (uint8_t)err;
    atomic_store(&conn->pipe->shard_wants_room, false);
}

/* Returns the number of bytes that found room. */
static size_t put_slices(struct pipe_conn *conn)
{
    size_t sum = 0;
    while (conn->slice_index < conn->slice_count) {
        struct rb_slice *slice = &conn->slices[conn->slice_index];
        if (slice->len == 0) {
            conn->slice_index++;
            continue;
        }
        uint32_t count =
            rb_pipe_ring_put(&conn->pipe->out, conn->pipe->ring_bytes, slice->ptr, slice->len);
        if (count == 0) {
            break;
        }
        slice->ptr += count;
        slice->len -= count;
        sum += count;
    }
    return sum;
}

/* Invariant 4. */
static void push_send(struct pipe_conn *conn)
{
    struct rb_pipe *pipe = conn->pipe;
    if ((atomic_load(&pipe->flags) & PIPE_PROGRAM_GONE) != 0) {
        conn->broken = true;
        finish_send(conn, RB_ERR_RESET);
        return;
    }
    size_t sum = put_slices(conn);
    if (conn->slice_index < conn->slice_count) {
        atomic_store(&pipe->shard_wants_room, true);
        sum += put_slices(conn); /* room that was made before the program could see the wish */
    }
    if (sum > 0) {
        rb_pipe_notify_program(pipe);
    }
    if (conn->slice_index == conn->slice_count) {
        finish_send(conn, RB_OK);
    }
}

static enum rb_err pipe_send(struct rb_transport *base, struct rb_conn_id id,
                             const struct rb_slice *slices, uint32_t slice_count)
{
    rb_assert(slice_count >= 1 && slice_count <= RB_SEND_SLICES_MAX);
    struct pipe_conn *conn = find(base, id);
    if (conn == NULL) {
        return RB_ERR_STALE;
    }
    if (conn->broken) {
        return RB_ERR_RESET;
    }
    if (conn->sending) {
        return RB_ERR_BUSY;
    }
    for (uint32_t i = 0; i < slice_count; i++) {
        conn->slices[i] = slices[i];
    }
    conn->slice_index = 0;
    conn->slice_count = slice_count;
    conn->sending = conn->left = true;
    push_send(conn);
    look_again(of(base), conn);
    return RB_OK;
}

/* ---- one connection's events ---- */

static void receive(struct rb_pipes *pipes, struct pipe_conn *conn)
{
    struct rb_pipe *pipe = conn->pipe;
    while (has_room(pipes)) {
        struct rb_slice bytes =
            rb_pipe_ring_peek(&pipe->in, pipe->ring_bytes, conn->borrowed_bytes, RB_RECV_BYTES);
        if (bytes.len == 0) {
            return;
        }
        add_event(pipes, conn, RB_EVENT_RECEIVED, RB_OK)->bytes = bytes;
        if (conn->borrowed_bytes == 0) {
            rb_list_append(&pipes->borrowed, &conn->borrowed_link);
        }
        conn->borrowed_bytes += (uint32_t)bytes.len;
    }
}

/* What the program's end means now; RB_ERR_BUSY: nothing yet. `flags` are from before the ring was
 * looked at. */
static enum rb_err judge_end(const struct pipe_conn *conn, uint32_t flags)
{
    if (conn->receive) {
        bool drained = rb_pipe_ring_used(&conn->pipe->in) == conn->borrowed_bytes;
        return (flags & PIPE_PROGRAM_ENDED) != 0 && drained ? RB_OK : RB_ERR_BUSY;
    }
    return conn->broken ? RB_ERR_RESET : RB_ERR_BUSY;
}

static void release_conn(struct rb_pipes *pipes, struct pipe_conn *conn)
{
    struct rb_pipe *pipe = conn->pipe;
    rb_list_remove(&conn->active_link);
    rb_list_remove(&conn->borrowed_link);
    pipe->conn = NULL;
    rb_budget_give(pipes->budget, pipe_bytes(pipe->ring_bytes));
    rb_slots_release(&pipes->slots, &conn->slot);
    rb_pipe_forget(pipe);
}

/* Delivers what there is room for; true when something may be left. */
static bool step_conn(struct rb_pipes *pipes, struct pipe_conn *conn)
{
    if (!conn->accepted) {
        conn->accepted = true;
        add_event(pipes, conn, RB_EVENT_ACCEPTED, RB_OK)->listener = RB_LISTENER_IN_PROCESS;
        return true; /* invariant 3 */
    }
    if (conn->left) {
        push_send(conn);
    }
    if (conn->sending && !conn->left) {
        conn->sending = false;
        add_event(pipes, conn, RB_EVENT_SENT, conn->sent_err);
    }
    if (conn->closing) {
        if (!has_room(pipes)) {
            return true;
        }
        add_event(pipes, conn, RB_EVENT_CLOSED, RB_OK);
        release_conn(pipes, conn);
        return false;
    }
    uint32_t flags = atomic_load(&conn->pipe->flags);
    if (conn->failed) {
        return false;
    }
    if (conn->receive) {
        receive(pipes, conn);
    }
    enum rb_err end = judge_end(conn, flags);
    if (end != RB_ERR_BUSY && has_room(pipes)) {
        conn->failed = true;
        add_event(pipes, conn, RB_EVENT_FAILED, end);
    }
    return !has_room(pipes);
}

/* ---- the turn ---- */

static void give_back(struct rb_pipes *pipes)
{
    struct rb_list *link;
    while ((link = rb_list_pop(&pipes->borrowed)) != NULL) {
        struct pipe_conn *conn = RB_CONTAINER(link, struct pipe_conn, borrowed_link);
        rb_pipe_ring_drop(&conn->pipe->in, conn->borrowed_bytes);
        conn->borrowed_bytes = 0;
        rb_pipe_notify_program(conn->pipe);
    }
}

static void break_pipe(struct rb_pipe *pipe)
{
    atomic_fetch_or(&pipe->flags, PIPE_SHARD_ENDED | PIPE_SHARD_BROKEN);
    rb_pipe_notify_program(pipe);
}

/* False when there is no room for the event of a refusal: then it was not looked at. */
static bool accept_pipe(struct rb_pipes *pipes, struct rb_pipe *pipe)
{
    size_t bytes = pipe_bytes(pipe->ring_bytes);
    struct pipe_conn *conn = NULL;
    if (rb_budget_take(pipes->budget, bytes)) {
        conn = (struct pipe_conn *)rb_slots_acquire(&pipes->slots);
        if (conn == NULL) {
            rb_budget_give(pipes->budget, bytes);
        }
    }
    if (conn == NULL) {
        if (has_room(pipes)) { /* one of them is enough to tell */
            add_event(pipes, NULL, RB_EVENT_ACCEPT_FAILED, RB_ERR_MEMORY)->listener =
                RB_LISTENER_IN_PROCESS;
        }
        break_pipe(pipe);
        rb_pipe_forget(pipe);
        return false;
    }
    rb_list_init(&conn->active_link);
    rb_list_init(&conn->borrowed_link);
    conn->pipe = pipe;
    conn->receive = true;
    pipe->conn = conn;
    return true;
}

/* Ends its place in the queue; false: our side is done with it, and it was given back. */
static bool unqueue(struct rb_pipe *pipe)
{
    if (pipe->shard_done) {
        rb_pipe_unref(pipe);
        return false;
    }
    atomic_exchange(&pipe->queued, false);
    return true;
}

static void take_queued(struct rb_pipes *pipes)
{
    struct rb_pipe *pipe = rb_pipes_take_queue(pipes);
    while (pipe != NULL) {
        struct rb_pipe *next = pipe->next_queued;
        if (unqueue(pipe) && (pipe->conn != NULL || accept_pipe(pipes, pipe))) {
            enlist(pipes, pipe->conn);
        }
        pipe = next;
    }
}

uint32_t rb_pipes_poll_some(struct rb_transport *base, uint32_t max, struct rb_event **ret_events)
{
    struct rb_pipes *pipes = of(base);
    pipes->event_count = 0;
    pipes->event_max = max < RB_EVENTS_MAX ? max : RB_EVENTS_MAX;
    give_back(pipes);
    rb_doorbell_answer(&pipes->bell);
    take_queued(pipes);
    struct rb_list todo, *link;
    rb_list_init(&todo);
    rb_list_splice(&todo, &pipes->active);
    while (has_room(pipes) && (link = rb_list_pop(&todo)) != NULL) {
        struct pipe_conn *conn = RB_CONTAINER(link, struct pipe_conn, active_link);
        if (step_conn(pipes, conn)) {
            enlist(pipes, conn);
        }
    }
    rb_list_splice(&todo, &pipes->active); /* who had no turn comes first */
    rb_list_splice(&pipes->active, &todo);
    if (!rb_list_empty(&pipes->active) || !rb_list_empty(&pipes->borrowed)) {
        (void)rb_doorbell_ring(&pipes->bell); /* invariants 1 and 2; we are awake */
    }
    *ret_events = pipes->events;
    return pipes->event_count;
}

static uint32_t pipe_poll(struct rb_transport *base, int64_t timeout_ns,
                          struct rb_event **ret_events)
{
    return rb_pipes_poll_some(base, RB_EVENTS_MAX, ret_events);
}

/* ---- the rest of the table ---- */

static enum rb_err pipe_listen(struct rb_transport *base, const struct rb_listen_options *options,
                               uint32_t *ret_listener, struct rb_addr *ret_bound)
{
    return RB_ERR_UNSUPPORTED; /* programs connect through rb_pipe_connect */
}

static void pipe_unlisten(struct rb_transport *base, uint32_t listener)
{
}

static enum rb_err pipe_connect(struct rb_transport *base, const struct rb_addr *addr,
                                struct rb_conn_id *ret_conn)
{
    return RB_ERR_ADDRESS;
}

static enum rb_err pipe_close(struct rb_transport *base, struct rb_conn_id id)
{
    struct pipe_conn *conn = find(base, id);
    if (conn == NULL) {
        return RB_ERR_STALE;
    }
    uint32_t flags = PIPE_SHARD_ENDED | (conn->left ? PIPE_SHARD_BROKEN : 0);
    if (conn->left) {
        finish_send(conn, RB_ERR_CANCELED);
    }
    atomic_fetch_or(&conn->pipe->flags, flags);
    rb_pipe_notify_program(conn->pipe);
    conn->closing = true;
    look_again(of(base), conn);
    return RB_OK;
}

static void pipe_credit(struct rb_transport *base, struct rb_conn_id id, bool receive_credit)
{
    struct pipe_conn *conn = find(base, id);
    if (conn != NULL && conn->receive != receive_credit) {
        conn->receive = receive_credit;
        look_again(of(base), conn);
    }
}

static void pipe_set_user(struct rb_transport *base, struct rb_conn_id id, void *user)
{
    struct pipe_conn *conn = find(base, id);
    if (conn != NULL) {
        conn->slot.user = user;
    }
}

static void pipe_wake(struct rb_transport *base, uint32_t peer_index)
{
    rb_unreachable("shards are woken through the base of the mux");
}

static void pipe_destroy(struct rb_transport *base)
{
    struct rb_pipes *pipes = of(base);
    pthread_mutex_lock(&pipes->lock);
    pipes->alive = false; /* no connect, no wake from here on */
    pthread_mutex_unlock(&pipes->lock);
    struct rb_pipe *pipe = rb_pipes_take_queue(pipes);
    while (pipe != NULL) {
        struct rb_pipe *next = pipe->next_queued;
        if (unqueue(pipe) && pipe->conn == NULL) {
            break_pipe(pipe);
            rb_pipe_forget(pipe);
        }
        pipe = next;
    }
    for (uint32_t i = 0; i < pipes->slots.high; i++) {
        struct pipe_conn *conn = (struct pipe_conn *)pipes->slots.table[i];
        if (conn != NULL) {
            break_pipe(conn->pipe);
            release_conn(pipes, conn);
        }
    }
    rb_slots_deinit(&pipes->slots);
}

const struct rb_transport_ops rb_pipe_ops = {
    .name = "pipe",
    .listen = pipe_listen,
    .unlisten = pipe_unlisten,
    .connect = pipe_connect,
    .send = pipe_send,
    .close = pipe_close,
    .credit = pipe_credit,
    .set_user = pipe_set_user,
    .poll = pipe_poll,
    .wake = pipe_wake,
    .destroy = pipe_destroy,
};
