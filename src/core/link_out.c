/* link_out.c - output of a connection becomes what goes on the wire: frames, records.
 *
 * 1. The connection's segments are plain protocol; encoding takes them from the front. Without TLS and compression their blocks move to
 *    the wire uncopied, between frame headers.
 * 2. TLS records want 16 KiB: small segments are joined in the core's scratch memory first.
 * 3. Before the handshake is done (INFO in clear) plain bytes go to the wire as they are.
 */
#include "core/link_inside.h"

#include "ringbus/check.h"

#define WIRE_BLOCK 32768
#define WIRE_ENOUGH (1024u * 1024)
#define FRAME_MAX (512u * 1024)
#define RECORD_BYTES 16384
#define SLICES_MAX 256

/* The wire */

static struct rb_seg *append_seg(struct rb_conn *conn, struct rb_buf *buf, bool own)
{
    struct rb_link *link = conn->link;
    struct rb_seg *seg = rb_pool_acquire(&conn->core->seg_pool);
    if (seg == NULL) {
        return NULL;
    }
    *seg = (struct rb_seg){ .buf = buf, .offset = buf->len, .own = own };
    if (link->wire_tail == NULL) {
        link->wire_head = seg;
    } else {
        link->wire_tail->next = seg;
    }
    link->wire_tail = seg;
    return seg;
}

bool rb_link_put_wire(struct rb_conn *conn, struct rb_slice bytes)
{
    struct rb_link *link = conn->link;
    while (bytes.len > 0) {
        struct rb_seg *tail = link->wire_tail;
        if (tail == NULL || !tail->own || tail->buf->len == tail->buf->cap) {
            uint32_t cap = bytes.len < 1024 && tail == NULL ? 1024 : WIRE_BLOCK;
            struct rb_buf *buf = rb_buf_acquire(&conn->core->bufs, cap);
            tail = buf == NULL ? NULL : append_seg(conn, buf, true);
            if (tail == NULL) {
                if (buf != NULL) {
                    rb_buf_release(buf);
                }
                return false;
            }
        }
        size_t room = tail->buf->cap - tail->buf->len;
        size_t len = bytes.len < room ? bytes.len : room;
        memcpy(tail->buf->data + tail->buf->len, bytes.ptr, len);
        tail->buf->len += (uint32_t)len;
        tail->len += (uint32_t)len;
        link->wire_bytes += len;
        bytes = rb_slice_of(bytes.ptr + len, bytes.len - len);
    }
    return true;
}

bool rb_link_sink(void *ctx, const uint8_t *bytes, size_t len)
{
    return rb_link_put_wire(ctx, rb_slice_of(bytes, len));
}

bool rb_link_put_plain(struct rb_conn *conn, struct rb_slice bytes)
{
    struct rb_link *link = conn->link;
    if (!link->secure) {
        return rb_link_put_wire(conn, bytes);
    }
    return rb_tls_write(link->tls, bytes, rb_link_sink, conn) == RB_TLS_DONE;
}

struct rb_seg *rb_link_wire(struct rb_link *link)
{
    return link->wire_head;
}

uint64_t rb_link_wire_bytes(const struct rb_link *link)
{
    return link->wire_bytes;
}

static void release_head(struct rb_conn *conn)
{
    struct rb_link *link = conn->link;
    struct rb_seg *seg = link->wire_head;
    link->wire_head = seg->next;
    if (link->wire_head == NULL) {
        link->wire_tail = NULL;
    }
    rb_buf_release(seg->buf);
    rb_pool_release(&conn->core->seg_pool, seg);
}

void rb_link_sent(struct rb_conn *conn, uint64_t bytes)
{
    struct rb_link *link = conn->link;
    link->wire_bytes -= bytes;
    while (bytes > 0) {
        struct rb_seg *seg = link->wire_head;
        if (bytes < seg->len) {
            seg->offset += (uint32_t)bytes;
            seg->len -= (uint32_t)bytes;
            return;
        }
        bytes -= seg->len;
        release_head(conn);
    }
    if (link->wire_bytes == 0) {
        rb_link_drop_output(conn);
    }
}

void rb_link_drop_output(struct rb_conn *conn)
{
    while (conn->link->wire_head != NULL) {
        release_head(conn);
    }
    conn->link->wire_bytes = 0;
}

/* Taking the connection's segments */

static void take_head(struct rb_conn *conn, uint32_t bytes)
{
    struct rb_seg *seg = conn->seg_head;
    conn->pending_bytes -= bytes;
    if (bytes < seg->len) {
        seg->offset += bytes;
        seg->len -= bytes;
        return;
    }
    conn->seg_head = seg->next;
    if (conn->seg_head == NULL) {
        conn->seg_tail = NULL;
    }
    rb_buf_release(seg->buf);
    rb_pool_release(&conn->core->seg_pool, seg);
}

/* The first `bytes` of output go to the wire without a copy. */
static void move_output(struct rb_conn *conn, uint64_t bytes)
{
    struct rb_link *link = conn->link;
    while (bytes > 0) {
        struct rb_seg *seg = conn->seg_head;
        if (seg->len > bytes) { /* cut: the rest stays, the front is referred to */
            struct rb_seg *front = append_seg(conn, seg->buf, false);
            if (front == NULL) {
                rb_conn_want_end(conn, RB_CLOSE_MEMORY, true);
                return;
            }
            rb_buf_hold(seg->buf);
            front->offset = seg->offset;
            front->len = (uint32_t)bytes;
            link->wire_bytes += bytes;
            take_head(conn, (uint32_t)bytes);
            return;
        }
        conn->seg_head = seg->next;
        if (conn->seg_head == NULL) {
            conn->seg_tail = NULL;
        }
        conn->pending_bytes -= seg->len;
        bytes -= seg->len;
        link->wire_bytes += seg->len;
        seg->next = NULL;
        seg->own = false; /* a frame header must not be appended behind it */
        if (link->wire_tail == NULL) {
            link->wire_head = seg;
        } else {
            link->wire_tail->next = seg;
        }
        link->wire_tail = seg;
    }
}

/* TLS alone: big pieces are encrypted where they lie, small ones joined. */
static bool encrypt_output(struct rb_conn *conn, uint64_t bytes)
{
    struct rb_link *link = conn->link;
    while (bytes > 0) {
        struct rb_seg *seg = conn->seg_head;
        uint32_t len = seg->len < bytes ? seg->len : (uint32_t)bytes;
        if (len >= RECORD_BYTES || (len == bytes && len == seg->len)) {
            struct rb_slice piece = rb_slice_of(seg->buf->data + seg->offset, len);
            if (rb_tls_write(link->tls, piece, rb_link_sink, conn) != RB_TLS_DONE) {
                return false;
            }
            take_head(conn, len);
            bytes -= len;
            continue;
        }
        size_t joined = 0;
        while (bytes > 0 && joined < RECORD_BYTES) {
            seg = conn->seg_head;
            len = seg->len < bytes ? seg->len : (uint32_t)bytes;
            len = len < RECORD_BYTES - joined ? len : (uint32_t)(RECORD_BYTES - joined);
            memcpy(conn->core->join + joined, seg->buf->data + seg->offset, len);
            joined += len;
            bytes -= len;
            take_head(conn, len);
        }
        struct rb_slice piece = rb_slice_of(conn->core->join, joined);
        if (rb_tls_write(link->tls, piece, rb_link_sink, conn) != RB_TLS_DONE) {
            return false;
        }
    }
    return true;
}

/* WebSocket frames */

static bool put_frame_head(struct rb_conn *conn, bool first, bool fin, bool compressed,
                           uint64_t bytes)
{
    uint8_t head[RB_WS_HEADER_MAX];
    size_t len = rb_ws_header(head, 2, first, fin, compressed, bytes, NULL);
    return rb_link_put_plain(conn, rb_slice_of(head, len));
}

/* One message of the first `bytes` of output, deflated. */
static bool compress_output(struct rb_conn *conn, uint64_t bytes)
{
    struct rb_core *core = conn->core;
    struct rb_slice slices[SLICES_MAX];
    uint32_t count = 0;
    uint64_t left = bytes;
    for (struct rb_seg *seg = conn->seg_head; left > 0 && count < SLICES_MAX; seg = seg->next) {
        uint32_t len = seg->len < left ? seg->len : (uint32_t)left;
        slices[count++] = rb_slice_of(seg->buf->data + seg->offset, len);
        left -= len;
    }
    bytes -= left;
    if (core->deflater == NULL && rb_ws_deflater_create(&core->deflater) != RB_OK) {
        return false;
    }
    struct rb_buf *packed = rb_ws_deflate(core->deflater, &core->bufs, slices, count);
    if (packed == NULL) {
        return false;
    }
    bool put = true;
    uint32_t frame_max =
        conn->link->browser && !conn->link->safari ? RB_WS_BROWSER_FRAME : UINT32_MAX;
    for (uint32_t at = 0; put && at < packed->len;) {
        uint32_t len = packed->len - at < frame_max ? packed->len - at : frame_max;
        put = put_frame_head(conn, at == 0, at + len == packed->len, at == 0, len) &&
              rb_link_put_plain(conn, rb_slice_of(packed->data + at, len));
        at += len;
    }
    rb_buf_release(packed);
    while (bytes > 0) {
        uint32_t len = conn->seg_head->len < bytes ? conn->seg_head->len : (uint32_t)bytes;
        take_head(conn, len);
        bytes -= len;
    }
    return put;
}

static bool frame_output(struct rb_conn *conn)
{
    struct rb_link *link = conn->link;
    uint64_t bytes = conn->pending_bytes < FRAME_MAX ? conn->pending_bytes : FRAME_MAX;
    if (link->deflate && bytes > RB_WS_COMPRESS_MIN) {
        return compress_output(conn, bytes);
    }
    uint64_t frame_max = link->browser ? RB_WS_BROWSER_FRAME : bytes;
    for (uint64_t at = 0; at < bytes;) {
        uint64_t len = bytes - at < frame_max ? bytes - at : frame_max;
        if (!put_frame_head(conn, at == 0, at + len == bytes, false, len)) {
            return false;
        }
        if (link->secure) {
            if (!encrypt_output(conn, len)) {
                return false;
            }
        } else {
            move_output(conn, len);
        }
        at += len;
    }
    return true;
}

static void encode(struct rb_conn *conn, uint64_t enough)
{
    struct rb_link *link = conn->link;
    bool done = true;
    while (done && conn->pending_bytes > 0 && link->wire_bytes < enough) {
        uint64_t bytes = conn->pending_bytes < FRAME_MAX ? conn->pending_bytes : FRAME_MAX;
        if (link->ws) {
            done = frame_output(conn);
        } else if (link->secure) {
            done = encrypt_output(conn, bytes);
        } else {
            move_output(conn, bytes);
            done = conn->end_reason != RB_CLOSE_MEMORY;
        }
    }
    if (!done) {
        rb_conn_want_end(conn, RB_CLOSE_MEMORY, true);
    } else if (conn->pending_bytes == 0 && conn->seg_head != NULL) {
        while (conn->seg_head != NULL) { /* segments without bytes */
            take_head(conn, conn->seg_head->len);
        }
    }
}

void rb_link_encode(struct rb_conn *conn)
{
    struct rb_link *link = conn->link;
    if (link->state == RB_LINK_HANDSHAKE || link->state == RB_LINK_UPGRADE) {
        return; /* nothing of the protocol goes out before */
    }
    encode(conn, WIRE_ENOUGH);
}

void rb_link_encode_all(struct rb_conn *conn)
{
    encode(conn, UINT64_MAX);
}

static uint16_t close_code(enum rb_close_reason reason)
{
    switch (reason) {
    case RB_CLOSE_CLIENT:
        return RB_WS_NORMAL;
    case RB_CLOSE_AUTH_TIMEOUT:
    case RB_CLOSE_AUTH:
    case RB_CLOSE_SLOW_PENDING:
    case RB_CLOSE_SLOW_DEADLINE:
    case RB_CLOSE_MAX_SUBS:
    case RB_CLOSE_MAX_CONNS:
    case RB_CLOSE_ACCOUNT_CONNS:
    case RB_CLOSE_MAX_CONTROL_LINE:
    case RB_CLOSE_MISSING_ACCOUNT:
        return RB_WS_POLICY;
    case RB_CLOSE_TLS:
        return RB_WS_TLS;
    case RB_CLOSE_PARSE:
    case RB_CLOSE_PROTOCOL:
    case RB_CLOSE_BAD_VERSION:
        return RB_WS_PROTOCOL;
    case RB_CLOSE_MAX_PAYLOAD:
        return RB_WS_TOO_BIG;
    case RB_CLOSE_WRITE:
    case RB_CLOSE_READ:
    case RB_CLOSE_STALE:
    case RB_CLOSE_SHUTDOWN:
        return RB_WS_GOING_AWAY;
    default:
        return RB_WS_INTERNAL;
    }
}

void rb_link_finish(struct rb_conn *conn)
{
    struct rb_link *link = conn->link;
    if (link == NULL || link->step != NULL || conn->drop_output || conn->failed) {
        return;
    }
    if (link->state == RB_LINK_OPEN) {
        rb_link_encode_all(conn);
    }
    if (link->ws && !link->finished) {
        uint8_t frame[RB_WS_HEADER_MAX + 125];
        enum rb_close_reason reason = (enum rb_close_reason)conn->end_reason;
        size_t len = rb_ws_control(frame, 8, close_code(reason),
                                   rb_slice_text(rb_close_reason_text(reason)));
        (void)rb_link_put_plain(conn, rb_slice_of(frame, len));
    }
    link->finished = true;
    if (link->secure) {
        rb_tls_shutdown(link->tls, rb_link_sink, conn);
    }
}
