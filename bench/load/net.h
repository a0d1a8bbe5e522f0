/* net.h - connections of the load generator. Everything here dies on failure (rb_load_die). */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "feed.h"
#include "load.h"
#include "stream.h"

/** A connection and what arrived on it. */
struct rb_client {
    int fd;
    struct rb_stream *stream; /* NULL: plain */
    struct rb_feed feed;
};

/** Connects (blocking, TCP_NODELAY), reads INFO, sends CONNECT and PING, waits for PONG. Retries
 * while refused. The login is `load->publisher`, or the given one. */
void rb_client_open(const struct rb_load *load, struct rb_client *client);
void rb_client_open_as(const struct rb_load *load, struct rb_client *client,
                       const struct rb_login *login);
void rb_client_close(struct rb_client *client);
/** Writes all of it, however long that takes. */
void rb_client_write(struct rb_client *client, const void *ptr, size_t len);
/** For stream.c: past the stream, and behind it. */
void rb_client_write_raw(struct rb_client *client, const void *ptr, size_t len);
void rb_client_feed(struct rb_client *client, const uint8_t *ptr, size_t len);
/** One read into the feed; waits at most `timeout_ms`. False when nothing came. Answers a PING. */
bool rb_client_read(struct rb_client *client, int timeout_ms);
/** Sends PING and reads until its PONG: everything written before has been worked on. */
void rb_client_sync(const struct rb_load *load, struct rb_client *client);
/** What a read returned goes into the feed; 0 and errors die; answers a PING. `len` as returned by
 * recv. */
void rb_client_took(struct rb_client *client, const uint8_t *ptr, ssize_t len);

/**
 * How many of `count` connections the limits on open files allow at both ends; this process's limit
 * is raised as far as it may be (beyond the hard limit for root). The caller reports the number it
 * got.
 */
uint32_t rb_net_allowed_conns(const struct rb_load *load, uint32_t count);
/** A loopback port nobody listens on right now. */
uint16_t rb_net_free_port(void);
/** One attempt at a blocking connection: the descriptor, or -1 with errno. */
int rb_net_try_connect(const char *host, uint16_t port);

/**
 * Opens `count` connections as fast as the server takes them, `inflight` at a time, and does
 * CONNECT and PING on each. They are non-blocking and belong to the returned epoll instance, with
 * the index as data.
 */
int rb_net_open_many(const struct rb_load *load, struct rb_client *clients, uint32_t count,
                     uint32_t inflight);
/** The same one at a time: begins a connection with `index` as its data ... */
void rb_net_start_one(const struct rb_load *load, int epoll, struct rb_client *client,
                      uint32_t index);
/** ... and goes on with it after an event. True when PONG came. */
bool rb_net_step_one(const struct rb_load *load, const struct rb_login *login,
                     struct rb_client *client, uint32_t index);
/** Resets instead of closing. */
void rb_net_reset(struct rb_client *client);
/** Resets all: thousands of connections leave no TIME_WAIT behind. */
void rb_net_close_many(int epoll, struct rb_client *clients, uint32_t count);
