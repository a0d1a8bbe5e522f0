/* wire.h - a client's connection as bytes: what it says is gathered, what it hears comes line by line. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ringbus/slice.h"
#include "transport/sim/sim.h"

struct sim_world;

struct sim_wire {
    struct rb_sim_peer *peer;
    uint8_t *out, *in;
    size_t out_len, out_cap, in_len, in_cap;
};

/** Behind what was said before; sent by sim_wire_flush. */
void sim_wire_say(struct sim_wire *wire, const void *bytes, size_t len);
/** Sends what was said, or forgets it when the connection is not `open` any more. */
void sim_wire_flush(struct sim_wire *wire, bool open);
/**
 * Takes up to `cap` bytes from the net and gives `hear` all that is there, until it uses none of it or the world has
 * failed. `hear` returns how many bytes it used. Returns how many came.
 */
size_t sim_wire_read(struct sim_world *w, struct sim_wire *wire, size_t cap,
                     size_t (*hear)(void *session, struct rb_slice input), void *session);
/** The first line with its CRLF. False: there is none yet, or it is malformed, which sim_fail tells of client `index`. */
bool sim_wire_line(struct sim_world *w, uint32_t index, struct rb_slice input,
                   struct rb_slice *ret_line);
void sim_wire_free(struct sim_wire *wire);

static inline const char *sim_json_bool(bool value)
{
    return value ? "true" : "false";
}
