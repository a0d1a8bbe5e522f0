/* mux.c - one transport over several.
 *
 * 1. An id's member is in the highest bits of its slot number; 0 is the base.
 * 2. A batch is the base's, then the members' as far as there is room. When only the base had
 *    events its array is handed on as it is; else all are copied into ours.
 * 3. A member that rang and got no room (the base filled the batch, or it cannot be given a limit)
 *    is owed the next batch, which it has for itself: no member is starved, the base neither.
 */
#include "transport/mux/mux.h"

#include <stdlib.h>
#include <string.h>

#include "ringbus/bounds.h"
#include "ringbus/check.h"

#define MEMBER_SHIFT 28
#define ID_MASK ((1U << MEMBER_SHIFT) - 1)

struct mux {
    struct rb_transport base;
    struct rb_mux_member members[RB_MUX_MEMBERS_MAX];
    uint32_t member_count;
    uint32_t first; /* of the members: who is polled first, in turn */
    bool owed;      /* invariant 3 */
    bool merged;    /* this batch is in `events` */
    uint32_t event_count;
    struct rb_event events[RB_EVENTS_MAX];
};

static struct mux *of(struct rb_transport *t)
{
    return (struct mux *)t;
}

/* The member of a slot number or listener, which is made the member's own. NULL: nobody's. */
static struct rb_transport *route(struct mux *mux, uint32_t *number)
{
    uint32_t member = *number >> MEMBER_SHIFT;
    *number &= ID_MASK;
    return member < mux->member_count ? mux->members[member].t : NULL;
}

static bool is_loopback(const struct rb_addr *addr)
{
    static const uint8_t v6[16] = { [15] = 1 };
    return addr->family == 4 ? addr->ip[0] == 127
                             : addr->family == 6 && memcmp(addr->ip, v6, sizeof(v6)) == 0;
}

/* Who listens on and connects to what is inside this machine. */
static uint32_t local_member(const struct mux *mux)
{
    for (uint32_t i = 1; i < mux->member_count; i++) {
        if (mux->members[i].local) {
            return i;
        }
    }
    return 0;
}

static enum rb_err mux_listen(struct rb_transport *t, const struct rb_listen_options *options,
                              uint32_t *ret_listener, struct rb_addr *ret_bound)
{
    struct mux *mux = of(t);
    bool local = options->unix_path != NULL || is_loopback(&options->addr);
    uint32_t member = local ? local_member(mux) : 0, listener;
    enum rb_err err = rb_transport_listen(mux->members[member].t, options, &listener, ret_bound);
    if (err == RB_OK) {
        rb_assert(listener <= ID_MASK);
        *ret_listener = member << MEMBER_SHIFT | listener;
    }
    return err;
}

static void mux_unlisten(struct rb_transport *t, uint32_t listener)
{
    struct rb_transport *member = route(of(t), &listener);
    rb_assert(member != NULL);
    rb_transport_unlisten(member, listener);
}

static enum rb_err mux_connect(struct rb_transport *t, const struct rb_addr *addr,
                               struct rb_conn_id *ret_conn)
{
    struct mux *mux = of(t);
    uint32_t member = is_loopback(addr) ? local_member(mux) : 0;
    struct rb_conn_id id;
    enum rb_err err = rb_transport_connect(mux->members[member].t, addr, &id);
    if (err == RB_OK) {
        rb_assert(id.slot <= ID_MASK);
        id.slot |= member << MEMBER_SHIFT;
        *ret_conn = id;
    }
    return err;
}

static enum rb_err mux_send(struct rb_transport *t, struct rb_conn_id id,
                            const struct rb_slice *slices, uint32_t slice_count)
{
    struct rb_transport *member = route(of(t), &id.slot);
    return member == NULL ? RB_ERR_STALE : rb_transport_send(member, id, slices, slice_count);
}

static enum rb_err mux_close(struct rb_transport *t, struct rb_conn_id id)
{
    struct rb_transport *member = route(of(t), &id.slot);
    return member == NULL ? RB_ERR_STALE : rb_transport_close(member, id);
}

static void mux_credit(struct rb_transport *t, struct rb_conn_id id, bool receive)
{
    struct rb_transport *member = route(of(t), &id.slot);
    if (member != NULL) {
        rb_transport_credit(member, id, receive);
    }
}

static void mux_set_user(struct rb_transport *t, struct rb_conn_id id, void *user)
{
    struct rb_transport *member = route(of(t), &id.slot);
    if (member != NULL) {
        rb_transport_set_user(member, id, user);
    }
}

/* ---- the turn ---- */

static void add_events(struct mux *mux, uint32_t member, const struct rb_event *events,
                       uint32_t count)
{
    rb_assert(count <= RB_EVENTS_MAX - mux->event_count);
    for (uint32_t i = 0; i < count; i++) {
        struct rb_event *event = &mux->events[mux->event_count++];
        *event = events[i];
        event->conn.slot |= member << MEMBER_SHIFT;
        if (event->listener != RB_LISTENER_IN_PROCESS) {
            event->listener |= member << MEMBER_SHIFT;
        }
    }
}

static void poll_member(struct mux *mux, uint32_t index, struct rb_event *base_events)
{
    struct rb_mux_member *member = &mux->members[index];
    if (member->bell != NULL && !rb_doorbell_rang(member->bell)) {
        return;
    }
    uint32_t room = RB_EVENTS_MAX - mux->event_count, count;
    if (room == 0 || (room < RB_EVENTS_MAX && member->poll_some == NULL)) {
        mux->owed = true;
        return;
    }
    struct rb_event *events;
    if (member->poll_some != NULL) {
        count = member->poll_some(member->t, room, &events);
    } else {
        count = rb_transport_poll(member->t, 0, &events);
    }
    if (count == 0) {
        return;
    }
    if (!mux->merged) {
        mux->merged = true;
        memcpy(mux->events, base_events, mux->event_count * sizeof(*base_events));
    }
    add_events(mux, index, events, count);
}

static void poll_members(struct mux *mux, struct rb_event *base_events)
{
    uint32_t others = mux->member_count - 1;
    for (uint32_t i = 0; i < others; i++) {
        poll_member(mux, 1 + (mux->first + i) % others, base_events);
    }
    if (mux->owed) {
        mux->first = (mux->first + 1) % others;
    }
}

/* How long the base may block; it may not while a member has work. */
static int64_t limit_wait(struct mux *mux, int64_t timeout_ns)
{
    for (uint32_t i = 1; i < mux->member_count && timeout_ns != 0; i++) {
        const struct rb_mux_member *member = &mux->members[i];
        if (member->bell != NULL) {
            timeout_ns = rb_doorbell_sleep(member->bell) ? timeout_ns : 0;
        } else if (member->poll_ns >= 0 && (timeout_ns < 0 || member->poll_ns < timeout_ns)) {
            timeout_ns = member->poll_ns;
        }
    }
    return timeout_ns;
}

static uint32_t mux_poll(struct rb_transport *t, int64_t timeout_ns, struct rb_event **ret_events)
{
    struct mux *mux = of(t);
    struct rb_event *events = mux->events;
    mux->event_count = 0;
    mux->merged = false;
    if (mux->owed) {
        mux->owed = false;
        poll_members(mux, events);
        if (mux->event_count > 0) { /* invariant 3 */
            *ret_events = mux->events;
            return mux->event_count;
        }
    }
    mux->event_count = rb_transport_poll(mux->members[0].t, limit_wait(mux, timeout_ns), &events);
    if (mux->member_count > 1) {
        poll_members(mux, events);
    }
    *ret_events = mux->merged ? mux->events : events;
    return mux->event_count;
}

static void mux_wake(struct rb_transport *t, uint32_t peer_index)
{
    rb_transport_wake(of(t)->members[0].t, peer_index);
}

static void mux_destroy(struct rb_transport *t)
{
    struct mux *mux = of(t);
    for (uint32_t i = mux->member_count; i > 0; i--) {
        rb_transport_destroy(mux->members[i - 1].t);
    }
    free(mux);
}

static const struct rb_transport_ops mux_ops = {
    .name = "mux",
    .listen = mux_listen,
    .unlisten = mux_unlisten,
    .connect = mux_connect,
    .send = mux_send,
    .close = mux_close,
    .credit = mux_credit,
    .set_user = mux_set_user,
    .poll = mux_poll,
    .wake = mux_wake,
    .destroy = mux_destroy,
};

enum rb_err rb_mux_create(const struct rb_mux_options *options, struct rb_transport **ret_transport)
{
    rb_assert(options->member_count >= 1 && options->member_count <= RB_MUX_MEMBERS_MAX);
    struct mux *mux = calloc(1, sizeof(*mux));
    if (mux == NULL) {
        return RB_ERR_MEMORY;
    }
    mux->base.ops = &mux_ops;
    mux->member_count = options->member_count;
    memcpy(mux->members, options->members, options->member_count * sizeof(mux->members[0]));
    *ret_transport = &mux->base;
    return RB_OK;
}
