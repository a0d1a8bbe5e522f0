/* stream.h - what may lie between a connection of the generator and the protocol: TLS or WebSocket. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "load.h"

struct rb_client;
struct rb_stream;

/** For `load->wire`; NULL: plain. */
struct rb_stream *rb_stream_create(const struct rb_load *load);
void rb_stream_destroy(struct rb_stream *stream); /* NULL is allowed */
/** The connection is there: sends what the client has to say before INFO. */
void rb_stream_begin(const struct rb_load *load, struct rb_client *client);
/** The protocol may be spoken, INFO aside. */
bool rb_stream_ready(const struct rb_stream *stream);
/** What came from the socket; what it holds goes on to rb_client_feed(). */
void rb_stream_take(struct rb_client *client, const uint8_t *ptr, size_t len);

struct rb_wire_bytes {
    const uint8_t *ptr; /* of the stream, until its next call */
    size_t len;
};
/** What goes to the socket for these protocol bytes: records, or one frame. */
struct rb_wire_bytes rb_stream_encode(struct rb_stream *stream, const void *ptr, size_t len);
