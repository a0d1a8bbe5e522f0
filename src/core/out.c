/* out.c - the output of a connection: a list of segments over counted blocks.
 *
 *      seg_head                                seg_tail
 *   [ sent | in flight ] -> [ in flight ] -> [ in flight | being filled | room ]
 *
 * 1. pending_bytes is the sum of all segment lengths; the first send_bytes of them are in flight.
 * 2. Bytes in flight never move: a block is only appended to, behind what was given to the transport.
 * 3. A connection without output holds no block and no segment.
 * 4. Blocks that others refer to (large payloads) are never appended to.
 */
#include "core/conn.h"

#include "core/link.h"
#include "ringbus/check.h"

#define BLOCK_SMALL_BYTES 1024
#define BLOCK_LARGE_BYTES (32 * 1024)
#define SEND_BYTES_MAX (1024 * 1024)
#define RUN_AFTER_BYTES 512

static struct rb_seg *append_seg(struct rb_conn *conn, struct rb_buf *buf, bool own)
{
    struct rb_seg *seg = rb_pool_acquire(&conn->core->seg_pool);
    if (seg == NULL) {
        return NULL;
    }
    *seg = (struct rb_seg){ .buf = buf, .offset = buf->len, .own = own };
    if (conn->seg_tail == NULL) {
        conn->seg_head = seg;
    } else {
        conn->seg_tail->next = seg;
    }
    conn->seg_tail = seg;
    return seg;
}

uint8_t *rb_conn_reserve(struct rb_conn *conn, uint32_t bytes)
{
    struct rb_seg *tail = conn->seg_tail;
    if (tail != NULL && tail->own && tail->buf->cap - tail->buf->len >= bytes) {
        return tail->buf->data + tail->buf->len;
    }
    uint32_t cap = BLOCK_SMALL_BYTES;
    if (tail != NULL || conn->flushed_bytes > BLOCK_SMALL_BYTES) {
        cap = BLOCK_LARGE_BYTES;
    }
    struct rb_buf *buf = rb_buf_acquire(&conn->core->bufs, bytes > cap ? bytes : cap);
    if (buf == NULL) {
        return NULL;
    }
    if (append_seg(conn, buf, true) == NULL) {
        rb_buf_release(buf);
        return NULL;
    }
    return buf->data;
}

void rb_conn_commit(struct rb_conn *conn, uint32_t bytes)
{
    struct rb_seg *tail = conn->seg_tail;
    tail->len += bytes;
    tail->buf->len += bytes;
    conn->pending_bytes += bytes;
}

void rb_conn_write(struct rb_conn *conn, struct rb_slice bytes)
{
    uint8_t *out = rb_conn_reserve(conn, (uint32_t)bytes.len);
    if (out == NULL) {
        rb_conn_want_end(conn, RB_CLOSE_MEMORY, true);
        return;
    }
    memcpy(out, bytes.ptr, bytes.len);
    rb_conn_commit(conn, (uint32_t)bytes.len);
}

bool rb_conn_write_ref(struct rb_conn *conn, struct rb_buf *buf, uint32_t offset, uint32_t len)
{
    struct rb_seg *seg = append_seg(conn, buf, false);
    if (seg == NULL) {
        return false;
    }
    rb_buf_hold(buf);
    seg->offset = offset;
    seg->len = len;
    conn->pending_bytes += len;
    return true;
}

bool rb_conn_write_run(struct rb_conn *conn, struct rb_buf *buf, uint32_t offset, uint32_t len)
{
    struct rb_seg *tail = conn->seg_tail;
    if (tail != NULL && tail->buf == buf && tail->offset + tail->len == offset) {
        tail->len += len;
        conn->pending_bytes += len;
        return true;
    }
    if (tail != NULL && tail->len < RUN_AFTER_BYTES) {
        return false; /* output of several kinds in turns: segments would be too small */
    }
    return rb_conn_write_ref(conn, buf, offset, len);
}

uint64_t rb_conn_pending(const struct rb_conn *conn)
{
    return conn->pending_bytes + (conn->link == NULL ? 0 : rb_link_wire_bytes(conn->link));
}

/* True: the connection has more output than it may, and ends. */
__attribute__((noinline)) static bool end_slow(struct rb_conn *conn)
{
    uint64_t max = conn->core->options.max_pending;
    if (conn->state == RB_CONN_HELLO && !conn->connected && max > RB_UNKNOWN_PENDING_MAX) {
        max = RB_UNKNOWN_PENDING_MAX;
    }
    if (rb_conn_pending(conn) <= max || conn->end_reason != RB_CLOSE_NONE) {
        return false;
    }
    rb_counter_add(&conn->core->stats.slow_consumers, 1);
    rb_counter_add(&conn->account->slow_consumers, 1);
    rb_conn_log(conn, RB_LOG_INF, "Slow Consumer Detected: MaxPending of %llu Exceeded",
                (unsigned long long)max);
    rb_conn_want_end(conn, RB_CLOSE_SLOW_PENDING, true);
    return true;
}

void rb_conn_written(struct rb_conn *conn)
{
    struct rb_core *core = conn->core;
    bool little = conn->link == NULL && conn->pending_bytes <= RB_UNKNOWN_PENDING_MAX &&
                  conn->pending_bytes <= core->options.max_pending;
    if (!little && end_slow(conn)) {
        return;
    }
    rb_effects_want(&core->effects, &conn->effect, RB_CONN_WANT_FLUSH);
}

void rb_conn_flush(struct rb_conn *conn)
{
    if (conn->sending || conn->failed || conn->state == RB_CONN_CLOSING) {
        return;
    }
    struct rb_seg *head = conn->seg_head;
    if (conn->link != NULL) {
        rb_link_encode(conn);
        head = rb_link_wire(conn->link);
    }
    if (head == NULL) {
        return;
    }
    struct rb_slice slices[RB_SEND_SLICES_MAX];
    uint32_t count = 0;
    uint64_t bytes = 0;
    for (struct rb_seg *seg = head;
         seg != NULL && count < RB_SEND_SLICES_MAX && bytes < SEND_BYTES_MAX; seg = seg->next) {
        if (seg->len > 0) {
            slices[count++] = rb_slice_of(seg->buf->data + seg->offset, seg->len);
            bytes += seg->len;
        }
    }
    if (count == 0) {
        rb_conn_drop_output(conn);
        return;
    }
    struct rb_core *core = conn->core;
    rb_histogram_add(&core->stats.pending_bytes, rb_conn_pending(conn));
    enum rb_err err = rb_transport_send(core->transport, conn->id, slices, count);
    if (err == RB_ERR_FULL) {
        rb_effects_want(&core->effects, &conn->effect, RB_CONN_WANT_FLUSH);
        return;
    }
    if (err != RB_OK) {
        conn->failed = true;
        rb_conn_want_end(conn, RB_CLOSE_WRITE, true);
        return;
    }
    conn->sending = true;
    conn->send_bytes = bytes;
    conn->flushed_bytes = bytes > UINT32_MAX ? UINT32_MAX : (uint32_t)bytes;
    conn->send_started_ns = core->now_ns;
    if (!rb_timer_armed(&conn->write_timer)) {
        rb_wheel_arm(&core->wheel, &conn->write_timer,
                     core->now_ns + core->options.write_deadline_ns);
    }
}

static void release_head(struct rb_conn *conn)
{
    struct rb_seg *seg = conn->seg_head;
    conn->seg_head = seg->next;
    if (conn->seg_head == NULL) {
        conn->seg_tail = NULL;
    }
    rb_buf_release(seg->buf);
    rb_pool_release(&conn->core->seg_pool, seg);
}

void rb_conn_sent(struct rb_conn *conn)
{
    uint64_t left = conn->send_bytes;
    conn->sending = false;
    conn->send_bytes = 0;
    if (conn->link != NULL) {
        rb_link_sent(conn, left);
        return;
    }
    rb_assert(left <= conn->pending_bytes);
    conn->pending_bytes -= left;
    while (left > 0) {
        struct rb_seg *seg = conn->seg_head;
        if (left < seg->len) {
            seg->offset += (uint32_t)left;
            seg->len -= (uint32_t)left;
            return;
        }
        left -= seg->len;
        release_head(conn);
    }
    if (conn->pending_bytes == 0) {
        rb_conn_drop_output(conn);
    }
}

void rb_conn_drop_output(struct rb_conn *conn)
{
    rb_assert(!conn->sending);
    while (conn->seg_head != NULL) {
        release_head(conn);
    }
    conn->pending_bytes = 0;
    if (conn->link != NULL) {
        rb_link_drop_output(conn);
    }
}
