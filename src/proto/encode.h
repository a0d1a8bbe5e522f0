/* encode.h - what the server sends: MSG, HMSG, -ERR and the fixed words. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "ringbus/slice.h"

#define RB_WIRE_PING RB_S("PING\r\n")
#define RB_WIRE_PONG RB_S("PONG\r\n")
#define RB_WIRE_OK RB_S("+OK\r\n")

/** Bytes a MSG or HMSG line may need beside subject, sid and reply. */
#define RB_MSG_LINE_EXTRA 48

/**
 * "MSG subject sid [reply] size\r\n" (header_len 0) or "HMSG subject sid [reply] header total\r\n".
 * `out` has room: RB_MSG_LINE_EXTRA beside the texts. Returns the length.
 */
size_t rb_encode_msg(uint8_t *out, struct rb_slice subject, struct rb_slice sid,
                     struct rb_slice reply, uint32_t header_len, uint32_t total_len);
/** "-ERR 'text'\r\n"; returns 0 when it does not fit. */
size_t rb_encode_err(uint8_t *out, size_t cap, const char *text);
/**
 * The whole 503 reply, "HMSG reply sid N N\r\nNATS/1.0 503\r\nNats-Subject: subject\r\n\r\n\r\n";
 * 0 when it does not fit.
 */
size_t rb_encode_no_responders(uint8_t *out, size_t cap, struct rb_slice reply, struct rb_slice sid,
                               struct rb_slice subject);
