/* link.h - what stands between the transport and the protocol of one connection: a PROXY header, TLS, WebSocket.
 *
 *   transport bytes --> [PROXY header] --> [TLS] --> [WebSocket] --> rb_conn_receive
 *   transport send <-- wire segments <-- [TLS] <-- [WebSocket] <-- the connection's output segments
 *
 * A plain connection has no link (conn->link is NULL) and pays nothing for it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/conn.h"

struct rb_link;
struct rb_tls_peer;

/**
 * Gives a new connection the link that its listener and the settings ask for. False: memory was refused. Sends the
 * INFO that goes out in clear, arms the timer of the first step. Without a link it does nothing.
 */
bool rb_link_begin(struct rb_conn *conn);
/** Bytes of the transport. */
void rb_link_receive(struct rb_conn *conn, struct rb_slice bytes);
/** The connection's timer fired; false: the link had nothing to do with it. */
bool rb_link_timer(struct rb_conn *conn);
/** A handshake step came back. */
void rb_link_job(struct rb_core *core, struct rb_job *job);
/** Encodes output of the connection until enough waits to be sent. */
void rb_link_encode(struct rb_conn *conn);
/** Encodes all that is left, a close frame and close_notify; once, when the connection ends with a last word. */
void rb_link_finish(struct rb_conn *conn);
/** First wire segment; bytes in all of them. */
struct rb_seg *rb_link_wire(struct rb_link *link);
uint64_t rb_link_wire_bytes(const struct rb_link *link);
/** Takes `bytes` off the front of the wire segments. */
void rb_link_sent(struct rb_conn *conn, uint64_t bytes);
/** Gives every wire segment back. */
void rb_link_drop_output(struct rb_conn *conn);
/** A job of a helper thread is under way: the connection must not be freed. */
bool rb_link_busy(const struct rb_link *link);
void rb_link_free(struct rb_conn *conn);

/** NULL: no TLS (yet). */
const char *rb_link_tls_version(const struct rb_link *link);
const char *rb_link_tls_cipher(const struct rb_link *link);
bool rb_link_tls_first(const struct rb_link *link);
bool rb_link_is_tls(const struct rb_link *link);
/** The peer's certificates; NULL: none. Lives as long as the link. */
const struct rb_tls_peer *rb_link_peer(const struct rb_link *link);
/** Credentials of cookies; empty: none. */
struct rb_link_cookies {
    struct rb_slice jwt, user, pass, token;
};
const struct rb_link_cookies *rb_link_cookies(const struct rb_link *link);
