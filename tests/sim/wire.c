/* wire.c - see wire.h. */
#include "wire.h"

#include <stdlib.h>
#include <string.h>

#include "world.h"

static const size_t line_max = 8192;

void sim_wire_say(struct sim_wire *wire, const void *bytes, size_t len)
{
    if (wire->out_len + len > wire->out_cap) {
        wire->out_cap = 2 * (wire->out_len + len);
        wire->out = realloc(wire->out, wire->out_cap);
    }
    memcpy(wire->out + wire->out_len, bytes, len);
    wire->out_len += len;
}

void sim_wire_flush(struct sim_wire *wire, bool open)
{
    if (open && wire->out_len > 0) {
        rb_sim_peer_send(wire->peer, rb_slice_of(wire->out, wire->out_len));
    }
    wire->out_len = 0;
}

static void digest_bytes(struct sim_world *w, struct rb_slice bytes)
{
    w->digest = (w->digest ^ rb_slice_hash(bytes) ^ rb_sim_net_now(w->net)) * 0x100000001b3u;
}

size_t sim_wire_read(struct sim_world *w, struct sim_wire *wire, size_t cap,
                     size_t (*hear)(void *session, struct rb_slice input), void *session)
{
    if (wire->in_len + cap > wire->in_cap) {
        wire->in_cap = 2 * (wire->in_len + cap);
        wire->in = realloc(wire->in, wire->in_cap);
    }
    size_t len = rb_sim_peer_recv(wire->peer, wire->in + wire->in_len, cap);
    if (len == 0) {
        return 0;
    }
    digest_bytes(w, rb_slice_of(wire->in + wire->in_len, len));
    wire->in_len += len;
    size_t at = 0;
    while (at < wire->in_len && !w->failed) {
        size_t used = hear(session, rb_slice_of(wire->in + at, wire->in_len - at));
        if (used == 0) {
            break;
        }
        at += used;
    }
    memmove(wire->in, wire->in + at, wire->in_len - at);
    wire->in_len -= at;
    return len;
}

bool sim_wire_line(struct sim_world *w, uint32_t index, struct rb_slice input,
                   struct rb_slice *ret_line)
{
    const uint8_t *end = memchr(input.ptr, '\n', input.len);
    if (end == NULL) {
        if (input.len > line_max) {
            sim_fail(w, "c%u: a line without end", index);
        }
        return false;
    }
    *ret_line = rb_slice_of(input.ptr, (size_t)(end + 1 - input.ptr));
    if (ret_line->len < 5 || ret_line->ptr[ret_line->len - 2] != '\r') {
        sim_fail(w, "c%u: malformed line %.*s", index, RB_S_ARG(*ret_line));
        return false;
    }
    return true;
}

void sim_wire_free(struct sim_wire *wire)
{
    free(wire->in);
    free(wire->out);
}
