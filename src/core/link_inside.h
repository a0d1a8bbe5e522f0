/* link_inside.h - what link.c (in) and link_out.c (out) share. */
#pragma once

#include "core/link.h"
#include "proto/ws.h"
#include "tls/tls.h"

enum rb_link_state {
    RB_LINK_FIRST, /* handshake_first with a fallback: nothing was sent or received */
    RB_LINK_PROXY,
    RB_LINK_SNIFF,
    RB_LINK_HANDSHAKE,
    RB_LINK_UPGRADE,
    RB_LINK_OPEN,
};

/** One step of a handshake, with its own copies: heap memory, since the shard's pools are not the helper's. */
struct rb_handshake {
    struct rb_job job;
    struct rb_conn *conn;
    struct rb_tls *tls;
    struct rb_tls_peer *peer;
    enum rb_tls_result result;
    uint8_t *out;
    size_t out_len, out_cap, in_len, in_used;
    uint8_t in[];
};

struct rb_link {
    enum rb_link_state state;
    bool tls_first, secure, proxy_done, ws, deflate, browser, safari;
    bool finished; /* the close frame went out */
    struct rb_tls *tls;
    struct rb_tls_peer *peer;
    struct rb_handshake *step;
    struct rb_buf *in;
    struct rb_seg *wire_head, *wire_tail;
    uint64_t wire_bytes;
    struct rb_link_cookies cookies;
    struct rb_ws_reader reader;
};

/** Appends bytes as they are to be sent. False: memory refused. */
bool rb_link_put_wire(struct rb_conn *conn, struct rb_slice bytes);
/** Appends bytes that TLS still has to encrypt, if there is TLS. */
bool rb_link_put_plain(struct rb_conn *conn, struct rb_slice bytes);
/** An rb_tls_sink onto the wire of `ctx`, a struct rb_conn. */
bool rb_link_sink(void *ctx, const uint8_t *bytes, size_t len);
/** Encodes all output, whatever waits already. */
void rb_link_encode_all(struct rb_conn *conn);
