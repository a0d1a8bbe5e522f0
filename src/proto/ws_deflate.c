/* ws_deflate.c - permessage-deflate without context takeover (RFC 7692 7), on zlib.
 *
 * Deflating: each message begins afresh, so one compressor serves all connections of a shard. Beginning afresh clears a hash
 * table, which for short messages costs more than the compressing; they get a compressor with a small table and window.
 *
 * Inflating, as long as a compressed message is under way:
 *
 *      block   | struct rb_ws_inflater | zlib's state | output ........ |      32 KiB of the pool
 *      window  | zlib's window ........................................ |      32 KiB, with the first output
 *
 * 1. All memory of an inflater comes from the connection's pool, so it is counted against the shard's budget, and cached.
 * 2. zlib allocates its state at the start and its window later; what does not fit the first block gets a block of its own.
 * 3. At most one byte beyond message_max is ever inflated: whatever its factor, a bomb costs the two blocks.
 * 4. A block marked as the last one (RFC 7692 7.2.3.4) ends nothing but itself: further ones may follow it.
 */
#include <stdlib.h>

#include <zlib.h>

#include "proto/ws.h"
#include "proto/ws_inflate.h"

#define WINDOW_BITS 15
#define MEMORY_LEVEL 8
#define SMALL_MESSAGE 8192 /* bytes; longer messages gain from the large window */
#define SMALL_WINDOW_BITS 13
#define SMALL_MEMORY_LEVEL 5
#define TAIL_BYTES 4
#define BOUND_EXTRA 16 /* what a flush adds to deflateBound */

/* ---------------------------------------------------------------- deflating */

struct rb_ws_deflater {
    z_stream small, large;
};

static bool deflate_start(z_stream *stream, int window_bits, int memory_level)
{
    return deflateInit2(stream, Z_BEST_SPEED, Z_DEFLATED, -window_bits, memory_level,
                        Z_DEFAULT_STRATEGY) == Z_OK;
}

enum rb_err rb_ws_deflater_create(struct rb_ws_deflater **ret_deflater)
{
    struct rb_ws_deflater *deflater = calloc(1, sizeof(*deflater));
    if (deflater == NULL) {
        return RB_ERR_MEMORY;
    }
    if (!deflate_start(&deflater->small, SMALL_WINDOW_BITS, SMALL_MEMORY_LEVEL)) {
        goto fail_small;
    }
    if (!deflate_start(&deflater->large, WINDOW_BITS, MEMORY_LEVEL)) {
        goto fail_large;
    }
    *ret_deflater = deflater;
    return RB_OK;

fail_large:
    deflateEnd(&deflater->small);
fail_small:
    free(deflater);
    return RB_ERR_MEMORY;
}

void rb_ws_deflater_destroy(struct rb_ws_deflater *deflater)
{
    if (deflater != NULL) {
        deflateEnd(&deflater->small);
        deflateEnd(&deflater->large);
        free(deflater);
    }
}

/* A block that will wait in a connection's output should not be much larger than what is in it. */
static struct rb_buf *shrink(struct rb_bufpool *pool, struct rb_buf *buf)
{
    if (buf->len > buf->cap / 4) {
        return buf;
    }
    struct rb_buf *smaller = rb_buf_acquire(pool, buf->len);
    if (smaller == NULL) {
        return buf; /* large, but there */
    }
    memcpy(smaller->data, buf->data, buf->len);
    smaller->len = buf->len;
    rb_buf_release(buf);
    return smaller;
}

struct rb_buf *rb_ws_deflate(struct rb_ws_deflater *deflater, struct rb_bufpool *pool,
                             const struct rb_slice *slices, uint32_t slice_count)
{
    uint64_t total = 0;
    for (uint32_t i = 0; i < slice_count; i++) {
        total += slices[i].len;
    }
    z_stream *stream = total <= SMALL_MESSAGE ? &deflater->small : &deflater->large;
    uint64_t bound =
        total > UINT32_MAX / 2 ? UINT64_MAX : deflateBound(stream, total) + BOUND_EXTRA;
    struct rb_buf *buf = bound > UINT32_MAX ? NULL : rb_buf_acquire(pool, (uint32_t)bound);
    if (buf == NULL) {
        return NULL;
    }
    int result = deflateReset(stream);
    stream->next_out = buf->data;
    stream->avail_out = buf->cap;
    for (uint32_t i = 0; i < slice_count && result == Z_OK; i++) {
        if (slices[i].len > 0) {
            stream->next_in = (Bytef *)(uintptr_t)slices[i].ptr; /* zlib only reads it */
            stream->avail_in = (uInt)slices[i].len;
            result = deflate(stream, Z_NO_FLUSH);
        }
    }
    stream->next_in = NULL;
    rb_assert(result == Z_OK && stream->avail_in == 0);
    result = deflate(stream, Z_SYNC_FLUSH);
    rb_assert(result == Z_OK && stream->avail_out > 0 && stream->total_out > TAIL_BYTES);
    buf->len = (uint32_t)stream->total_out - TAIL_BYTES;
    return shrink(pool, buf);
}

/* ---------------------------------------------------------------- inflating */

#define BLOCK_BYTES 32768
#define EXTRA_BLOCKS 2

struct rb_ws_inflater {
    z_stream stream;
    struct rb_bufpool *pool;
    struct rb_buf *block, *extra[EXTRA_BLOCKS];
    uint8_t *out;  /* NULL while zlib's first allocations go into the block */
    uint32_t used; /* bytes of the block in use, without the output */
    bool pending, ended;
    uint64_t left; /* bytes that the message may still have */
};

static voidpf zlib_alloc(voidpf opaque, uInt count, uInt size)
{
    struct rb_ws_inflater *inflater = opaque;
    uint64_t bytes = ((uint64_t)count * size + 15) / 16 * 16;
    if (inflater->out == NULL && bytes <= BLOCK_BYTES / 2 - inflater->used) {
        voidpf taken = inflater->block->data + inflater->used;
        inflater->used += (uint32_t)bytes;
        return taken;
    }
    for (int i = 0; i < EXTRA_BLOCKS; i++) {
        if (inflater->extra[i] == NULL && bytes <= 4 * BLOCK_BYTES) {
            inflater->extra[i] = rb_buf_acquire(inflater->pool, (uint32_t)bytes);
            return inflater->extra[i] == NULL ? NULL : inflater->extra[i]->data;
        }
    }
    return NULL;
}

/* Nothing to do: the blocks go together, in rb_ws_inflater_release. */
static void zlib_free(voidpf opaque, voidpf ptr)
{
    (void)opaque;
    (void)ptr;
}

static void release_blocks(struct rb_ws_inflater *inflater)
{
    for (int i = 0; i < EXTRA_BLOCKS; i++) {
        if (inflater->extra[i] != NULL) {
            rb_buf_release(inflater->extra[i]);
        }
    }
    rb_buf_release(inflater->block); /* `inflater` lies in it */
}

struct rb_ws_inflater *rb_ws_inflater_acquire(struct rb_bufpool *pool, uint64_t message_max)
{
    struct rb_buf *block = rb_buf_acquire(pool, BLOCK_BYTES);
    if (block == NULL) {
        return NULL;
    }
    struct rb_ws_inflater *inflater = (struct rb_ws_inflater *)(void *)block->data;
    *inflater = (struct rb_ws_inflater){
        .pool = pool,
        .block = block,
        .used = (sizeof(*inflater) + 15) / 16 * 16,
        .left = message_max,
    };
    inflater->stream.zalloc = zlib_alloc;
    inflater->stream.zfree = zlib_free;
    inflater->stream.opaque = inflater;
    if (inflateInit2(&inflater->stream, -WINDOW_BITS) != Z_OK) {
        release_blocks(inflater);
        return NULL;
    }
    inflater->out = block->data + inflater->used;
    return inflater;
}

void rb_ws_inflater_release(struct rb_ws_inflater *inflater)
{
    inflateEnd(&inflater->stream);
    release_blocks(inflater);
}

/* Until the input is taken or the output full. */
static int inflate_all(struct rb_ws_inflater *inflater)
{
    z_stream *stream = &inflater->stream;
    for (;;) {
        uInt had_in = stream->avail_in, had_out = stream->avail_out;
        int result = inflate(stream, Z_SYNC_FLUSH);
        if (result == Z_STREAM_END) {
            inflater->ended = true;
            result = inflateResetKeep(stream); /* invariant 4 */
        } else if (had_in != stream->avail_in || had_out != stream->avail_out) {
            inflater->ended = false;
        }
        if (result != Z_OK || stream->avail_in == 0 || stream->avail_out == 0) {
            return result == Z_BUF_ERROR ? Z_OK : result; /* there was nothing to do */
        }
    }
}

enum rb_ws_inflate rb_ws_inflate_step(struct rb_ws_inflater *inflater, struct rb_slice *in,
                                      struct rb_slice *ret_out)
{
    z_stream *stream = &inflater->stream;
    uInt room = (uInt)(inflater->block->cap - inflater->used);
    room = inflater->left < room ? (uInt)inflater->left + 1 : room; /* invariant 3 */
    stream->next_in = (Bytef *)(uintptr_t)in->ptr;
    stream->avail_in = in->len < UINT32_MAX ? (uInt)in->len : UINT32_MAX;
    stream->next_out = inflater->out;
    stream->avail_out = room;
    uInt given = stream->avail_in;
    int result = inflate_all(inflater);
    uInt taken = given - stream->avail_in, made = room - stream->avail_out;
    if (taken > 0) {
        *in = rb_slice_of(in->ptr + taken, in->len - taken);
    }
    inflater->pending = stream->avail_out == 0;
    if (made > inflater->left) {
        return RB_WS_INFLATE_TOO_BIG;
    } /* first, so that the verdict does not depend on how the input is cut */
    if (result != Z_OK) {
        return result == Z_MEM_ERROR ? RB_WS_INFLATE_MEMORY : RB_WS_INFLATE_CORRUPT;
    }
    inflater->left -= made;
    *ret_out = rb_slice_of(inflater->out, made);
    return RB_WS_INFLATE_OK;
}

bool rb_ws_inflate_pending(const struct rb_ws_inflater *inflater)
{
    return inflater->pending;
}

bool rb_ws_inflate_ended(const struct rb_ws_inflater *inflater)
{
    return inflater->ended;
}

bool rb_ws_inflate_whole(const struct rb_ws_inflater *inflater)
{
    return (inflater->stream.data_type & 128) != 0; /* zlib.h: right behind the end of a block */
}
