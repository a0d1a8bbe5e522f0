/* ws_inflate.h - the inflater of one compressed WebSocket message; for ws.c only. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "ringbus/buf.h"
#include "ringbus/slice.h"

struct rb_ws_inflater;

enum rb_ws_inflate {
    RB_WS_INFLATE_OK,
    RB_WS_INFLATE_CORRUPT,
    RB_WS_INFLATE_MEMORY,
    RB_WS_INFLATE_TOO_BIG, /* more than the message may have */
};

/** Two blocks of 32 KiB of `pool`, the second one when the first bytes come out. NULL when refused. */
struct rb_ws_inflater *rb_ws_inflater_acquire(struct rb_bufpool *pool, uint64_t message_max);
void rb_ws_inflater_release(struct rb_ws_inflater *inflater);

/** Takes from the front of *in until it is empty or the output is full. *ret_out is borrowed until the next call. */
enum rb_ws_inflate rb_ws_inflate_step(struct rb_ws_inflater *inflater, struct rb_slice *in,
                                      struct rb_slice *ret_out);
/** The output was full: more may come without input. */
bool rb_ws_inflate_pending(const struct rb_ws_inflater *inflater);
/** Stands behind a block marked as the last one, so no tail is needed. */
bool rb_ws_inflate_ended(const struct rb_ws_inflater *inflater);
/** Stands between two blocks, as a whole message with its tail does. */
bool rb_ws_inflate_whole(const struct rb_ws_inflater *inflater);
