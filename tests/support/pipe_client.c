/* pipe_client.c - the program's end of pipes as a transport. */
#include "pipe_client.h"

#include <stdlib.h>

#include "ringbus/bounds.h"
#include "ringbus/check.h"
#include "transport/slot.h"

#define AREA_BYTES (1U << 20)

struct client_conn {
    struct rb_slot slot;
    struct rb_pipe *pipe; /* NULL: closed */
    bool announced, receive, sending, failed, broken;
    enum rb_err sent_err;
    uint32_t slice_index, slice_count;
    struct rb_slice slices[RB_SEND_SLICES_MAX];
};

struct client {
    struct rb_transport base;
    struct rb_pipes *pipes;
    struct rb_slots slots;
    uint32_t event_count;
    size_t area_len;
    uint8_t *area;
    struct rb_event events[RB_EVENTS_MAX];
};

static struct client_conn *find(struct rb_transport *t, struct rb_conn_id id)
{
    struct client_conn *conn =
        (struct client_conn *)rb_slots_find(&((struct client *)t)->slots, id);
    return conn != NULL && conn->pipe != NULL ? conn : NULL;
}

static struct rb_event *give(struct client *c, struct client_conn *conn, enum rb_event_kind kind,
                             enum rb_err err)
{
    rb_assert(c->event_count < RB_EVENTS_MAX);
    struct rb_event *event = &c->events[c->event_count++];
    *event = (struct rb_event){
        .kind = kind, .err = err, .conn = conn->slot.id, .user = conn->slot.user
    };
    return event;
}

static enum rb_err client_listen(struct rb_transport *t, const struct rb_listen_options *options,
                                 uint32_t *ret_listener, struct rb_addr *ret_bound)
{
    return RB_ERR_UNSUPPORTED;
}

static void client_unlisten(struct rb_transport *t, uint32_t listener)
{
}

static enum rb_err client_connect(struct rb_transport *t, const struct rb_addr *addr,
                                  struct rb_conn_id *ret_conn)
{
    struct client *c = (struct client *)t;
    struct rb_pipe *pipe;
    enum rb_err err = rb_pipe_connect(c->pipes, &pipe);
    if (err != RB_OK) {
        return err;
    }
    struct client_conn *conn = (struct client_conn *)rb_slots_acquire(&c->slots);
    rb_assert(conn != NULL);
    conn->pipe = pipe;
    conn->receive = true;
    *ret_conn = conn->slot.id;
    return RB_OK;
}

static enum rb_err client_send(struct rb_transport *t, struct rb_conn_id id,
                               const struct rb_slice *slices, uint32_t slice_count)
{
    struct client_conn *conn = find(t, id);
    if (conn == NULL || conn->sending || conn->broken) {
        return conn == NULL ? RB_ERR_STALE : conn->sending ? RB_ERR_BUSY : RB_ERR_RESET;
    }
    for (uint32_t i = 0; i < slice_count; i++) {
        conn->slices[i] = slices[i];
    }
    conn->slice_index = 0;
    conn->slice_count = slice_count;
    conn->sending = true;
    return RB_OK;
}

static enum rb_err client_close(struct rb_transport *t, struct rb_conn_id id)
{
    struct client_conn *conn = find(t, id);
    if (conn == NULL) {
        return RB_ERR_STALE;
    }
    rb_pipe_close(conn->pipe);
    conn->pipe = NULL;
    return RB_OK;
}

static void client_credit(struct rb_transport *t, struct rb_conn_id id, bool receive)
{
    struct client_conn *conn = find(t, id);
    if (conn != NULL) {
        conn->receive = receive;
    }
}

static void client_set_user(struct rb_transport *t, struct rb_conn_id id, void *user)
{
    struct client_conn *conn = find(t, id);
    if (conn != NULL) {
        conn->slot.user = user;
    }
}

static void step_send(struct client *c, struct client_conn *conn)
{
    enum rb_err err = RB_OK;
    while (conn->slice_index < conn->slice_count && err == RB_OK) {
        struct rb_slice *slice = &conn->slices[conn->slice_index];
        size_t taken = 0;
        err =
            slice->len == 0 ? RB_OK : rb_pipe_write(conn->pipe, slice->ptr, slice->len, 0, &taken);
        slice->ptr += taken;
        slice->len -= taken;
        conn->slice_index += err == RB_OK;
    }
    if (err == RB_ERR_TIMEOUT) {
        return;
    }
    conn->sending = false;
    give(c, conn, RB_EVENT_SENT, err);
    if (err != RB_OK) {
        conn->broken = true;
        if (!conn->failed && !conn->receive) {
            conn->failed = true;
            give(c, conn, RB_EVENT_FAILED, err);
        }
    }
}

static void step_read(struct client *c, struct client_conn *conn)
{
    size_t len = 0;
    enum rb_err err = rb_pipe_read(conn->pipe, c->area + c->area_len, RB_RECV_BYTES, 0, &len);
    if (err == RB_OK && len > 0) {
        give(c, conn, RB_EVENT_RECEIVED, RB_OK)->bytes = rb_slice_of(c->area + c->area_len, len);
        c->area_len += len;
    } else if (err != RB_ERR_TIMEOUT) {
        conn->failed = true;
        conn->broken = conn->broken || err != RB_OK;
        give(c, conn, RB_EVENT_FAILED, err);
    }
}

static void step(struct client *c, struct client_conn *conn)
{
    if (!conn->announced) {
        conn->announced = true;
        if (conn->pipe == NULL) {
            give(c, conn, RB_EVENT_FAILED, RB_ERR_CANCELED);
        } else {
            give(c, conn, RB_EVENT_CONNECTED, RB_OK);
            return;
        }
    }
    if (conn->pipe == NULL) {
        if (conn->sending) {
            give(c, conn, RB_EVENT_SENT, RB_ERR_CANCELED);
        }
        give(c, conn, RB_EVENT_CLOSED, RB_OK);
        rb_slots_release(&c->slots, &conn->slot);
        return;
    }
    if (conn->sending) {
        step_send(c, conn);
    }
    if (conn->receive && !conn->failed && c->area_len + RB_RECV_BYTES <= AREA_BYTES) {
        step_read(c, conn);
    }
}

static uint32_t client_poll(struct rb_transport *t, int64_t timeout_ns,
                            struct rb_event **ret_events)
{
    struct client *c = (struct client *)t;
    c->event_count = 0;
    c->area_len = 0;
    static const uint32_t of_one_max = 3;
    for (uint32_t i = 0; i < c->slots.high && c->event_count + of_one_max <= RB_EVENTS_MAX; i++) {
        if (c->slots.table[i] != NULL) {
            step(c, (struct client_conn *)c->slots.table[i]);
        }
    }
    *ret_events = c->events;
    return c->event_count;
}

static void client_wake(struct rb_transport *t, uint32_t peer_index)
{
}

static void client_destroy(struct rb_transport *t)
{
    struct client *c = (struct client *)t;
    for (uint32_t i = 0; i < c->slots.high; i++) {
        struct client_conn *conn = (struct client_conn *)c->slots.table[i];
        if (conn != NULL) {
            if (conn->pipe != NULL) {
                rb_pipe_close(conn->pipe);
            }
            rb_slots_release(&c->slots, &conn->slot);
        }
    }
    rb_slots_deinit(&c->slots);
    free(c->area);
    free(c);
}

static const struct rb_transport_ops client_ops = {
    .name = "pipe client",
    .listen = client_listen,
    .unlisten = client_unlisten,
    .connect = client_connect,
    .send = client_send,
    .close = client_close,
    .credit = client_credit,
    .set_user = client_set_user,
    .poll = client_poll,
    .wake = client_wake,
    .destroy = client_destroy,
};

struct rb_transport *pipe_client_create(struct rb_pipes *pipes)
{
    struct client *c = calloc(1, sizeof(*c));
    rb_assert(c != NULL);
    c->base.ops = &client_ops;
    c->pipes = pipes;
    c->area = malloc(AREA_BYTES);
    rb_assert(c->area != NULL);
    rb_slots_init(&c->slots, NULL, sizeof(struct client_conn));
    return &c->base;
}
